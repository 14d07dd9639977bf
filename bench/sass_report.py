#!/usr/bin/env python3
"""The instructions of every GPU kernel as nvdisasm reads them from ptxas' code, by kind, per target.

    bench/sass_report.py [--nvcc PATH] [--targets 80,86,...]    writes bench/results/sass.tsv and sass.md
    bench/sass_report.py --check --ptx build/release/kernels --targets 80    a test: writes nothing

nvdisasm comes from PyPI (nvidia-cuda-nvdisasm; ./run setup puts it into .cache); without it the check says SKIPPED.

Instructions are counted as they stand in the code, not as often as they run, over the whole kernel and once more
over its main loop: of the loops that hold the most mma, the shortest. Fillers that never run (predicate !PT) are a
kind of their own. The check fails on local memory (LDL, STL), and in GEMM and attention on copies to shared memory
(LDGSTS) of less than 16 bytes, on a main loop without mma or ldmatrix, on one that loads from global memory into
registers, and, from 64 x 64 tiles on, on one with more than LIMIT integer instructions a mma."""
import argparse, os, re, shutil, subprocess, sys, tempfile
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import ptxas_report as ptxas

OUT = os.path.join(ptxas.ROOT, 'bench', 'results', 'sass')
# (kind, opcodes as regular expressions), in this order; what is none of them is "other".
KINDS = [('mma', r'[HI]MMA'), ('ldsm', r'LDSM'), ('ldgsts', r'LDGSTS'),
         ('ldg128', r'LDG\S*\.128'), ('ldg64', r'LDG\S*\.64'), ('ldg', r'LDG|LD\b'),
         ('stg128', r'STG\S*\.128'), ('stg64', r'STG\S*\.64'), ('stg', r'STG|ST\b|ATOM|RED'),
         ('lds', r'LDS'), ('sts', r'STS'), ('local', r'LDL|STL'), ('bar', r'BAR|WARPSYNC'),
         ('wait', r'LDGDEPBAR|DEPBAR|ERRBAR|MEMBAR|CCTL|ACQBULK|PREEXIT'), ('mufu', r'MUFU'), ('shfl', r'SHFL|REDUX|VOTE'),
         ('fp32', r'F(FMA|ADD|MUL|MNMX|SETP|SEL|SET|CHK|RND|SWZADD)'), ('fp16', r'H(ADD|MUL|FMA|SET|MNMX)'),
         ('convert', r'F2F|F2I|I2F|I2FP|F2FP|PRMT|FRND'),
         ('move', r'MOV|UMOV|IMAD\.MOV|CS2R|S2R|S2UR|R2UR|LDC|ULDC|R2P|P2R'),
         ('int', r'U?(IMAD|IADD3|IADD|ISETP|ISCADD|LEA|LOP3|LOP|SHF|SHL|SHR|IMNMX|VIMNMX|SEL|PLOP3|ISET|POPC|FLO|IABS|SGXT|BMSK|VIADD|VIADDMNMX|I2I|LOP32I|IADD32I)'),
         ('branch', r'BRA|BRX|EXIT|RET|CALL|BSSY|BSYNC|BREAK|NOP|YIELD|BMOV')]
PATTERNS = [(kind, re.compile('(?:' + opcodes + r')(?![A-Z0-9])')) for kind, opcodes in KINDS]
NAMES = [kind for kind, _ in KINDS] + ['other', 'filler']
LIMIT = 6.0
MMA_KERNEL = re.compile(r'gemm_|attention_mma_')


def find_nvdisasm(nvcc):
    for place in (shutil.which('nvdisasm'), os.path.join(os.path.dirname(nvcc), 'nvdisasm'),
                  os.path.join(ptxas.ROOT, '.cache/nvdisasm/nvidia/cu13/bin/nvdisasm')):
        if place and os.access(place, os.X_OK):
            return place
    return None


def kind_of(line):
    """(kind, opcode) of an instruction with its predicate."""
    m = re.match(r'(@!?U?P[T0-9]\s+)?(\S+)', line)
    if (m[1] or '').strip() == '@!PT':
        return 'filler', m[2]
    for kind, pattern in PATTERNS:
        if pattern.match(m[2]):
            return kind, m[2]
    return 'other', m[2]


def count(instructions):
    counts = dict.fromkeys(NAMES, 0)
    for line in instructions:
        counts[kind_of(line)[0]] += 1
    return counts


def main_loop(instructions, labels):
    """The instructions of the shortest loop among those with the most mma; [] when no loop has one."""
    best, best_key = [], (0, 0)
    for i, line in enumerate(instructions):
        m = re.search(r'\bBRA(?:\.\S+)?\s.*`\((\S+?)\)', line)
        if not m or labels.get(m[1], i + 1) > i:
            continue
        body = instructions[labels[m[1]]:i + 1]
        n = sum(kind_of(x)[0] == 'mma' for x in body)
        if n and (n, -len(body)) > best_key:
            best, best_key = body, (n, -len(body))
    return best


def disassemble(nvdisasm, cubin):
    """{kernel: (counts, counts of the main loop, opcodes of LDGSTS)}"""
    run = subprocess.run([nvdisasm, '-c', cubin], capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(run.stderr)
    kernels, name, instructions, labels = {}, None, [], {}

    def finish():
        if name:
            copies = [kind_of(x)[1] for x in instructions if kind_of(x)[0] == 'ldgsts']
            kernels[name] = (count(instructions), count(main_loop(instructions, labels)), copies)

    for line in run.stdout.splitlines():
        if m := re.match(r'\.text\.(\S+):', line):
            finish()
            name, instructions, labels = m[1], [], {}
        elif m := re.match(r'(\.L_\S+):', line):
            labels[m[1]] = len(instructions)
        elif m := re.match(r'\s+/\*[0-9a-f]{4,}\*/\s+(.*?)\s*;', line):
            instructions.append(re.sub(r'^[{}]\s*', '', m[1]))
    finish()
    return kernels


def offences(kernel, target, counts, loop, copies):
    where = f'{kernel} sm_{target}'
    if counts['local']:
        yield f"{where}: {counts['local']} instructions on local memory"
    if not MMA_KERNEL.match(kernel):
        return
    if narrow := [c for c in copies if '.128' not in c]:
        yield f'{where}: {len(narrow)} copies of less than 16 bytes ({narrow[0]})'
    if not loop['mma'] or not loop['ldsm']:
        yield f'{where}: no loop with mma and ldmatrix'
    elif loop['int'] > LIMIT * loop['mma'] and loop['mma'] >= 32 and kernel.startswith('gemm'):
        yield f"{where}: {loop['int']} integer instructions for {loop['mma']} mma in the main loop"
    if kernel.startswith('gemm') and loop['ldg'] + loop['ldg64'] + loop['ldg128']:
        yield f'{where}: the main loop loads from global memory into registers'


def write(table, targets, version, bad):
    with open(OUT + '.tsv', 'w') as out:
        out.write('kernel\ttarget\tpart\ttotal\t' + '\t'.join(NAMES) + '\n')
        for (kernel, target), (counts, loop, _) in sorted(table.items()):
            for part, c in (('all', counts), ('loop', loop)):
                if sum(c.values()):
                    out.write('\t'.join([kernel, target, part, str(sum(c.values()))] + [str(c[k]) for k in NAMES]) + '\n')
    shown = [t for t in ('80', '90a', '120') if t in targets] or targets[:1]
    with open(OUT + '.md', 'w') as out:
        out.write('# GPU kernels as instructions\n\n'
                  f'Written by bench/sass_report.py with nvcc {version}; do not edit. Sources {ptxas.sources_hash():016x}; '
                  f'{len({k for k, _ in table})} kernels, {len(targets)} targets, {len(bad)} offences. '
                  'Every target and kind is in sass.tsv.\n\n')
        for line in bad:
            out.write(f'- {line}\n')
        out.write('Main loops of the kernels that multiply: instructions as they stand in the code, and how many there '
                  'are for one mma.\n\n| kernel | target | loop | mma | ldsm | ldgsts | int | move | fp32 | mufu | bar | fillers | '
                  'a mma | int a mma |\n' + '|---' * 14 + '|\n')
        for (kernel, target), (_, loop, _) in sorted(table.items()):
            if target in shown and loop['mma']:
                n = sum(loop.values()) - loop['filler']
                cells = [kernel, 'sm_' + target, n] + [loop[k] for k in (
                    'mma', 'ldsm', 'ldgsts', 'int', 'move', 'fp32', 'mufu', 'bar', 'filler')]
                out.write('| ' + ' | '.join(map(str, cells)) + f" | {n / loop['mma']:.2f} | {loop['int'] / loop['mma']:.2f} |\n")
        out.write(f'\nKernels bound by memory, whole, sm_{shown[-1]}: accesses by width.\n\n| kernel | total | ldg128 | ldg64 | '
                  'ldg | stg128 | stg64 | stg | lds | sts | int | fp32 | convert | mufu | shfl |\n' + '|---' * 15 + '|\n')
        for (kernel, target), (c, loop, _) in sorted(table.items()):
            if target == shown[-1] and not loop['mma']:
                cells = [kernel, sum(c.values())] + [c[k] for k in ('ldg128', 'ldg64', 'ldg', 'stg128', 'stg64', 'stg', 'lds', 'sts',
                                                                    'int', 'fp32', 'convert', 'mufu', 'shfl')]
                out.write('| ' + ' | '.join(map(str, cells)) + ' |\n')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--nvcc')
    parser.add_argument('--nvdisasm')
    parser.add_argument('--targets', default='80,86,89,90a,100,120')
    parser.add_argument('--ptx', help="folder of the build's compute_80 PTX: with --check for all targets, "
                        'else for those of Ampere and Ada; nvcc makes the others')
    parser.add_argument('--check', action='store_true', help='write no table')
    parser.add_argument('--only', help='one file: gemm_f16')
    parser.add_argument('--registers', help='a limit that makes kernels spill, to prove the check')
    options = parser.parse_args()
    targets = options.targets.split(',')
    nvcc = options.nvcc or ptxas.find_nvcc()
    nvdisasm = options.nvdisasm or find_nvdisasm(nvcc)
    if not nvdisasm:
        print('SKIPPED: sass_report: no nvdisasm (pip install nvidia-cuda-nvdisasm)')
        sys.exit(0 if options.check else 2)
    version = re.search(r'release ([\d.]+)', subprocess.run([nvcc, '--version'], capture_output=True, text=True).stdout)[1]
    assembler = os.path.join(os.path.dirname(nvcc), 'ptxas')
    names = sorted(n for n in os.listdir(ptxas.FOLDER) if n.endswith('.cu') and n != 'abi_check.cu')
    if options.only:
        names = [options.only + '.cu']
    table = {}
    uses_built = '123456789' if options.check else '8'

    def one(job):
        name, target = job
        path = (os.path.join(options.ptx, name[:-3] + '.short.ptx') if options.ptx and target[0] in uses_built else
                ptxas.to_ptx(nvcc, 'kernels/cuda/' + name, target, work))
        cubin = os.path.join(work, f'{name}.{target}.cubin')
        with open(path) as f:
            text = f.read()
        if options.registers:
            text = re.sub(r'(?m)^\.maxntid.*', '.maxnreg ' + options.registers, text)
        run = subprocess.run([assembler, f'-arch=sm_{target}', '-o', cubin, '-'], input=text, capture_output=True, text=True)
        if run.returncode:
            raise RuntimeError(run.stderr)
        found = disassemble(nvdisasm, cubin)
        os.remove(cubin)
        print('sass_report:', name, target, file=sys.stderr)
        return target, found

    with tempfile.TemporaryDirectory() as work, ThreadPoolExecutor(2) as pool:
        # One job a file first: its PTX is made once for all targets of a kind.
        for target, found in pool.map(one, [(n, t) for t in targets for n in names]):
            for kernel, counts in found.items():
                table[kernel, target] = counts
    bad = [line for (kernel, target), c in sorted(table.items()) for line in offences(kernel, target, *c)]
    if not options.check:
        write(table, targets, version, bad)
    for line in bad:
        print('sass_report:', line)
    print(f'sass_report: {len(table)} kernels x targets ({options.targets}), {len(bad)} offences')
    sys.exit(1 if bad or not table else 0)


if __name__ == '__main__':
    main()
