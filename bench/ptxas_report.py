#!/usr/bin/env python3
"""What ptxas makes of every GPU kernel: registers, shared memory, spills, occupancy per target.

    bench/ptxas_report.py [--nvcc PATH] [--targets 80,86,...]    writes bench/results/ptxas.md
    bench/ptxas_report.py --check --ptx build/release/kernels --targets 80,90    a test: writes nothing

Every kernels/cuda/*.cu becomes PTX as in the build (compute_80 for Ampere and Ada, compute_90a for sm_90a,
compute_90 for what came later; --ptx takes the build's own compute_80 PTX), then code for each target.
Spills and local memory are not allowed: the report ends with the number of offenders, and the exit code
is 1 when there is one. The table carries a hash of the kernels' sources.

Occupancy is arithmetic (registers come in units of 256 a warp, shared memory with 1 KiB a block on
top): blocks that fit one multiprocessor, and their warps as a share of its limit. Shared memory is
what the host asks for: GEMM rings as in catalog.h; attention for sequences of 128 tokens and tiles of
64 query rows."""
import argparse, os, re, shutil, subprocess, sys, tempfile
from concurrent.futures import ThreadPoolExecutor

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FOLDER = os.path.join(ROOT, 'kernels', 'cuda')
OUT = os.path.join(ROOT, 'bench', 'results', 'ptxas.md')
# target: (warps, shared bytes of a multiprocessor, most shared bytes of a block)
MACHINES = {'80': (64, 164, 163), '86': (48, 100, 99), '89': (48, 100, 99), '90': (64, 228, 227), '90a': (64, 228, 227),
            '100': (64, 228, 227), '120': (48, 100, 99)}


def sources_hash():
    """FNV-1a, 64 bits, over the files in order of their names."""
    h = 0xcbf29ce484222325
    for name in sorted(os.listdir(FOLDER)):
        if not (name.endswith(('.cu', '.cuh')) or name in ('args.h', 'catalog.h')):
            continue
        with open(os.path.join(FOLDER, name), 'rb') as f:
            for byte in f.read():
                h = ((h ^ byte) * 0x100000001b3) & 0xffffffffffffffff
    return h


def find_nvcc():
    for place in (shutil.which('nvcc'), '/usr/local/cuda/bin/nvcc'):
        if place and os.path.exists(place):
            return place
    for base, _, files in os.walk(os.path.join(ROOT, '.cache', 'cuda')):
        if 'nvcc' in files and base.endswith('bin'):
            return os.path.join(base, 'nvcc')
    sys.exit('ptxas_report: no nvcc (PATH, /usr/local/cuda, .cache/cuda)')


def to_ptx(nvcc, source, target, folder):
    """The path of source's PTX, as sources.cmake makes it for this target."""
    virtual = 'compute_80' if target.startswith('8') else 'compute_90a' if target == '90a' else 'compute_90'
    path = os.path.join(folder, f'{os.path.basename(source)[:-3]}.{virtual}.ptx')
    if not os.path.exists(path):
        run = subprocess.run([nvcc, '-std=c++17', '-O3', '-I.', '-arch=' + virtual, '-ptx', '-o', path, source],
                             cwd=ROOT, capture_output=True, text=True)
        if run.returncode:
            raise RuntimeError(run.stderr)
    return path


def compile_one(ptxas, ptx, target, limit):
    """{kernel: (registers, static shared, stack, spilled bytes)}"""
    if limit:
        with open(ptx) as f:
            text = re.sub(r'(?m)^\.maxntid.*', '.maxnreg ' + limit, f.read())
        ptx = '-'
    run = subprocess.run([ptxas, f'-arch=sm_{target}', '-v', '-o', os.devnull, ptx], capture_output=True, text=True,
                         input=text if limit else None)
    if run.returncode:
        raise RuntimeError(run.stderr)
    kernels, name = {}, None
    stack = spill = 0
    for line in (run.stdout + run.stderr).splitlines():
        if m := re.search(r"Compiling entry function '([^']+)'", line):
            name, stack, spill = m[1], 0, 0
        elif m := re.search(r'(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads', line):
            stack, spill = int(m[1]), int(m[2]) + int(m[3])
        elif (m := re.search(r'Used (\d+) registers', line)) and name:
            shared = re.search(r'(\d+) bytes smem', line)
            kernels[name] = (int(m[1]), int(shared[1]) if shared else 0, stack, spill)
            name = None
    return kernels


def tiles():
    """{'64x64': (threads, dynamic shared bytes)} from catalog.h"""
    with open(os.path.join(FOLDER, 'catalog.h')) as f:
        text = f.read()
    found = {}
    block = re.search(r'#define GEMM_TILES\(X\)(.*?)\n\n', text, re.S)[1]
    for bm, bn, wm, wn, stages in re.findall(r'X\((\d+), (\d+), (\d+), (\d+), (\d+)\)', block):
        found[f'{bm}x{bn}'] = (int(wm) * int(wn) * 32, int(stages) * (int(bm) + int(bn)) * 128)
    return found


def launch_of(kernel, gemm):
    """(threads, dynamic shared bytes) of a typical launch."""
    if m := re.search(r'_(\d+x\d+)_', kernel):
        return gemm[m[1]]
    if m := re.match(r'attention_mma_\w+?_(\d+)(_general)?$', kernel):
        return 128, (64 + 2 * 128) * int(m[1]) * 2
    if kernel.startswith(('fold_', 'head_', 'batch_copy', 'peak_')):
        return 256, 0
    return (32 if kernel.startswith('pool') else 128), 0


def occupancy(target, registers, static, threads, dynamic):
    warps, shared_kib, block_kib = MACHINES[target]
    per_block = threads // 32
    per_warp = (registers * 32 + 255) // 256 * 256
    shared = static + dynamic
    if shared > block_kib * 1024:
        return 0, 0
    blocks = min(32 if warps == 64 else 24, warps // per_block,
                 (16384 // per_warp) * 4 // per_block,
                 shared_kib * 1024 // ((shared + 127) // 128 * 128 + 1024))
    return blocks, 100 * blocks * per_block // warps


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--nvcc')
    parser.add_argument('--targets', default='80,86,89,90a,100,120')
    parser.add_argument('--ptx', help="folder of the build's PTX; without it, nvcc makes it")
    parser.add_argument('--check', action='store_true', help='write no table')
    parser.add_argument('--only', help='one file: gemm_f16')
    parser.add_argument('--registers', help='a limit that makes kernels spill, to prove the check')
    options = parser.parse_args()
    targets = options.targets.split(',')
    nvcc = options.nvcc or find_nvcc()
    version = re.search(r'release ([\d.]+)', subprocess.run([nvcc, '--version'], capture_output=True, text=True).stdout)[1]
    ptxas = os.path.join(os.path.dirname(nvcc), 'ptxas')
    names = sorted(n for n in os.listdir(FOLDER) if n.endswith('.cu') and n != 'abi_check.cu')
    if options.only:
        names = [n for n in names if n == options.only + '.cu']
    table = {}

    def one(name):
        """[(target, kernels)] of one file."""
        if options.ptx:
            paths = {t: os.path.join(options.ptx, name[:-3] + '.short.ptx') for t in targets}
        else:
            paths = {t: to_ptx(nvcc, 'kernels/cuda/' + name, t, work) for t in targets}
        found = [(t, compile_one(ptxas, paths[t], t, options.registers)) for t in targets]
        print('ptxas_report:', name, file=sys.stderr)
        return found

    with tempfile.TemporaryDirectory() as work, ThreadPoolExecutor(2) as pool:
        for found in pool.map(one, names):
            for target, kernels in found:
                for kernel, numbers in kernels.items():
                    table.setdefault(kernel, {})[target] = numbers
    gemm = tiles()
    offenders = [f'{k} sm_{t}: {n[2]} bytes of stack, {n[3]} spilled'
                 for k, row in sorted(table.items()) for t, n in row.items() if n[2] or n[3]]
    if options.check:
        for line in offenders:
            print('ptxas_report:', line)
        print(f'ptxas_report: {len(table)} kernels, targets {options.targets}, {len(offenders)} offenders')
        sys.exit(1 if offenders or not table else 0)
    with open(OUT, 'w') as out:
        out.write('# GPU kernels as ptxas compiles them\n\n'
                  f'Written by bench/ptxas_report.py with nvcc {version}; do not edit. Nothing here was measured on a '
                  'GPU.\nSources ' + f'{sources_hash():016x}' + f'; {len(table)} kernels; '
                  f'{len(offenders)} with spills or local memory.\n\n'
                  'Registers a thread per target; shared memory and threads of a typical launch; then blocks a '
                  'multiprocessor\nand occupancy (warps of its limit).\n\n')
        for line in offenders:
            out.write(f'- {line}\n')
        out.write('| kernel | threads | shared KiB | ' + ' | '.join(f'sm_{t}' for t in targets) + ' | ' +
                  ' | '.join(f'blocks, occupancy sm_{t}' for t in targets) + ' |\n')
        out.write('|---' * (3 + 2 * len(targets)) + '|\n')
        for kernel, row in sorted(table.items()):
            threads, dynamic = launch_of(kernel, gemm)
            static = max(n[1] for n in row.values())
            cells = [kernel, str(threads), f'{(static + dynamic) / 1024:.1f}'] + [str(row[t][0]) for t in targets]
            for t in targets:
                blocks, share = occupancy(t, row[t][0], row[t][1], threads, dynamic)
                cells.append(f'{blocks}, {share} %' if blocks else 'does not fit')
            out.write('| ' + ' | '.join(cells) + ' |\n')
    print(f'ptxas_report: {len(table)} kernels, {len(offenders)} offenders, {OUT}', file=sys.stderr)
    sys.exit(1 if offenders else 0)


if __name__ == '__main__':
    main()
