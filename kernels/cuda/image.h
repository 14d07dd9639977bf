/* The kernels as the build embeds them (sources.cmake): one image per .cu file. */
#ifndef CRANK_CUDA_IMAGE_H
#define CRANK_CUDA_IMAGE_H

#include <stddef.h>

typedef struct cuda_image {
    const char *name;                         /* of the .cu file; NULL ends the list */
    const unsigned char *cubins, *cubins_end; /* a fatbin for several targets; NULL: none built */
    const unsigned char *ptx, *ptx_end;       /* gzip of PTX text for compute_80 */
} cuda_image;

extern const cuda_image cuda_images[];
/* The CUDA version of the nvcc that made them (13000 = 13.0); 0: this build has no kernels. */
extern const int cuda_image_version;

/* Defines name and name_end: the bytes of a file, as read-only data of this object. */
#define CUDA_EMBED(name, path)                                                                     \
    __asm__(".section .rodata, \"a\", %progbits\n"                                                 \
            ".balign 64\n"                                                                         \
            ".hidden " #name "\n.global " #name "\n" #name ":\n"                                   \
            ".incbin \"" path "\"\n"                                                               \
            ".hidden " #name "_end\n.global " #name "_end\n" #name "_end:\n"                       \
            ".byte 0\n"                                                                            \
            ".previous\n");                                                                        \
    extern const unsigned char name[], name##_end[];

#endif
