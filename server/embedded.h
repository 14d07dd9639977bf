/* Files compiled into the program: made from server/page and server/openapi.json by embed.cmake. */
#ifndef CRANK_SERVER_EMBEDDED_H
#define CRANK_SERVER_EMBEDDED_H

#include <stddef.h>

extern const unsigned char embedded_openapi[], embedded_page[], embedded_style[], embedded_script[];
extern const size_t embedded_openapi_bytes, embedded_page_bytes, embedded_style_bytes,
    embedded_script_bytes;

#endif
