#include "kernels/emu/fatbin.h"

#include <string.h>

#define FATBIN_MAGIC 0xba55ed50u
#define WRAPPER_MAGIC 0x466243b1u
#define ELF_MAGIC 0x464c457fu

typedef struct fatbin_header {
    uint32_t magic;
    uint16_t version, header_bytes;
    uint64_t body_bytes;
} fatbin_header;

typedef struct fatbin_entry {
    uint16_t kind; /* 1 PTX, 2 ELF */
    uint16_t version;
    uint32_t header_bytes;
    uint64_t payload_bytes;
    uint32_t compressed_bytes; /* not 0: only so much of the payload counts */
    uint32_t unknown;
    uint16_t minor, major; /* of the payload's format */
    uint32_t arch;
} fatbin_entry;

#define KIND_PTX 1

/* The target word of PTX text: 80 and 'a' of ".target sm_80a". */
static int read_target(const char *text, size_t bytes, uint32_t *arch, char *suffix)
{
    static const char word[] = ".target sm_";
    for (size_t i = 0; i + sizeof word < bytes && i < 4096; i++) {
        if (memcmp(text + i, word, sizeof word - 1) != 0) continue;
        i += sizeof word - 1;
        *arch = 0;
        while (i < bytes && text[i] >= '0' && text[i] <= '9' && *arch < 10000)
            *arch = *arch * 10 + (uint32_t)(text[i++] - '0');
        *suffix = i < bytes && text[i] >= 'a' && text[i] <= 'z' ? text[i] : 0;
        return 1;
    }
    return 0;
}

static int suits(uint32_t arch, char suffix, uint32_t capability)
{
    return suffix ? arch == capability : arch <= capability;
}

/* Whether image begins with these four bytes, none of which is zero. Bytes are looked at one by
 * one: a text of unknown size may end before the fourth. */
static int begins_with(const uint8_t *image, size_t image_bytes, uint32_t magic)
{
    for (size_t i = 0; i < 4; i++) {
        if ((image_bytes != 0 && i >= image_bytes) || image[i] != (uint8_t)(magic >> 8 * i))
            return 0;
    }
    return 1;
}

static crank_status take_text(const uint8_t *at, size_t image_bytes, uint32_t capability,
                              const char **text, size_t *bytes, crank_error *error)
{
    size_t length = image_bytes ? strnlen((const char *)at, image_bytes) : strlen((const char *)at);
    uint32_t arch;
    char suffix;
    CRANK_CHECK(!begins_with(at, image_bytes, ELF_MAGIC), UNSUPPORTED, error,
                "an ELF file, a cubin alone if it is one: the emulator needs PTX (nvcc -fatbin "
                "-gencode arch=compute_80,code=compute_80 --compress-mode=none)");
    CRANK_CHECK(read_target((const char *)at, length, &arch, &suffix), FORMAT, error,
                "neither a fatbin nor PTX text");
    CRANK_CHECK(suits(arch, suffix, capability), UNSUPPORTED, error,
                "PTX for sm_%u on a device of compute capability %u.%u", arch, capability / 10,
                capability % 10);
    *text = (const char *)at;
    *bytes = length;
    return CRANK_OK;
}

crank_status fatbin_find_ptx(const void *image, size_t image_bytes, uint32_t capability,
                             const char **text, size_t *bytes, crank_error *error)
{
    const uint8_t *at = image;
    if (begins_with(at, image_bytes, WRAPPER_MAGIC)) {
        /* It holds a pointer, which means nothing in a file. */
        CRANK_CHECK(image_bytes == 0, FORMAT, error, "fatbin: a wrapper, not a fatbin");
        memcpy(&at, at + 8, sizeof at);
    }
    if (!begins_with(at, image_bytes, FATBIN_MAGIC))
        return take_text(at, image_bytes, capability, text, bytes, error);
    fatbin_header header;
    CRANK_CHECK(image_bytes == 0 || image_bytes >= sizeof header, FORMAT, error,
                "fatbin: cut short");
    memcpy(&header, at, sizeof header);
    size_t total = (size_t)header.header_bytes + header.body_bytes;
    CRANK_CHECK(header.header_bytes >= sizeof header && header.body_bytes <= SIZE_MAX / 2 &&
                    (image_bytes == 0 || total <= image_bytes),
                FORMAT, error, "fatbin: header says %llu bytes",
                (unsigned long long)header.body_bytes);
    int compressed = 0, found = 0;
    uint32_t best = 0;
    for (size_t offset = header.header_bytes; total - offset >= sizeof(fatbin_entry);) {
        fatbin_entry entry;
        memcpy(&entry, at + offset, sizeof entry);
        CRANK_CHECK(entry.header_bytes >= sizeof entry && entry.header_bytes <= total - offset &&
                        entry.payload_bytes <= total - offset - entry.header_bytes,
                    FORMAT, error, "fatbin: entry at %zu reaches past the end", offset);
        const char *payload = (const char *)at + offset + entry.header_bytes;
        offset += entry.header_bytes + entry.payload_bytes;
        if (entry.kind != KIND_PTX) continue;
        size_t length = strnlen(payload, entry.payload_bytes);
        uint32_t arch;
        char suffix;
        if (!read_target(payload, length, &arch, &suffix)) {
            compressed = 1;
            continue;
        }
        if (!suits(arch, suffix, capability) || (found && arch * 2 + (suffix != 0) < best))
            continue;
        found = 1;
        best = arch * 2 + (suffix != 0);
        *text = payload;
        *bytes = length;
    }
    CRANK_CHECK(found, UNSUPPORTED, error,
                compressed ? "fatbin: its PTX is compressed; build with --compress-mode=none"
                           : "fatbin: no PTX for compute capability %u.%u or older; build with "
                             "-gencode arch=compute_80,code=compute_80",
                capability / 10, capability % 10);
    return CRANK_OK;
}
