// JSON bodies: simdjson's DOM behind body.h.
#include "server/body.h"

#include <simdjson.h>

#include <cstring>
#include <new>

using simdjson::dom::element;

struct body_parser {
    simdjson::dom::parser parser;
};

struct body_document {
    simdjson::dom::document document;
};

static_assert(sizeof(element) <= sizeof(body_value), "an element fits into a body_value");
static_assert(simdjson::SIMDJSON_PADDING <= BODY_PADDING, "buffers are padded enough");

static element element_of(body_value value)
{
    element e;
    std::memcpy(static_cast<void *>(&e), &value, sizeof e);
    return e;
}

static body_value value_of(element e)
{
    body_value value = {{0, 0}};
    std::memcpy(&value, static_cast<const void *>(&e), sizeof e);
    return value;
}

body_parser *body_parser_open(void)
{
    auto *parser = new (std::nothrow) body_parser;
    // One more than the levels allowed: simdjson counts the document as a level.
    if (parser && parser->parser.allocate(4096, BODY_MAX_DEPTH + 1) != simdjson::SUCCESS) {
        delete parser;
        return nullptr;
    }
    return parser;
}

void body_parser_close(body_parser *parser)
{
    delete parser;
}

body_outcome body_parse(body_parser *parser, char *data, size_t bytes,
                        body_document **document, body_value *root)
{
    *document = nullptr;
    auto *made = new (std::nothrow) body_document;
    if (!made) return BODY_NO_MEMORY;
    element top;
    auto error = parser->parser.parse_into_document(made->document, data, bytes, false).get(top);
    if (error != simdjson::SUCCESS && error != simdjson::MEMALLOC &&
        body_whole_to_real(data, bytes) > 0)
        error = parser->parser.parse_into_document(made->document, data, bytes, false).get(top);
    if (error != simdjson::SUCCESS) {
        delete made;
        return error == simdjson::MEMALLOC ? BODY_NO_MEMORY : BODY_FAULT;
    }
    *document = made;
    *root = value_of(top);
    return BODY_OK;
}

void body_document_close(body_document *document)
{
    delete document;
}

body_kind body_kind_of(body_value value)
{
    switch (element_of(value).type()) {
    case simdjson::dom::element_type::ARRAY: return BODY_ARRAY;
    case simdjson::dom::element_type::OBJECT: return BODY_OBJECT;
    case simdjson::dom::element_type::INT64: return BODY_INTEGER;
    case simdjson::dom::element_type::UINT64:
    case simdjson::dom::element_type::DOUBLE: return BODY_REAL;
    case simdjson::dom::element_type::STRING: return BODY_STRING;
    case simdjson::dom::element_type::BOOL: return BODY_BOOL;
    case simdjson::dom::element_type::NULL_VALUE: break;
    }
    return BODY_NULL;
}

int body_bool(body_value value)
{
    bool is = false;
    return element_of(value).get(is) == simdjson::SUCCESS && is;
}

int64_t body_integer(body_value value)
{
    int64_t number = 0;
    return element_of(value).get(number) == simdjson::SUCCESS ? number : 0;
}

const char *body_string(body_value value, size_t *bytes)
{
    std::string_view view;
    if (element_of(value).get(view) != simdjson::SUCCESS) view = std::string_view();
    *bytes = view.size();
    return view.data();
}

int body_object_each(body_value object, body_visit visit, void *user)
{
    simdjson::dom::object o;
    if (element_of(object).get(o) != simdjson::SUCCESS) return 0;
    for (auto field : o)
        if (int code = visit(user, field.key.data(), field.key.size(), value_of(field.value)))
            return code;
    return 0;
}

int body_array_each(body_value array, body_visit_item visit, void *user)
{
    simdjson::dom::array a;
    if (element_of(array).get(a) != simdjson::SUCCESS) return 0;
    size_t i = 0;
    for (auto item : a)
        if (int code = visit(user, i++, value_of(item))) return code;
    return 0;
}

static int count(void *user, size_t, body_value)
{
    ++*static_cast<size_t *>(user);
    return 0;
}

size_t body_array_size(body_value array)
{
    size_t n = 0; // not array::size(), which saturates at 2^24 - 1
    body_array_each(array, count, &n);
    return n;
}
