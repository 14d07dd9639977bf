/* A small WordPiece tokenizer.json that tests take apart. */
#ifndef CRANK_TESTS_SMALL_TOKENIZER_H
#define CRANK_TESTS_SMALL_TOKENIZER_H

#define SMALL_ADDED                                                                                \
    "[{\"id\":0,\"content\":\"[PAD]\",\"special\":true},"                                          \
    "{\"id\":1,\"content\":\"[UNK]\",\"special\":true},"                                           \
    "{\"id\":2,\"content\":\"[CLS]\",\"special\":true},"                                           \
    "{\"id\":3,\"content\":\"[SEP]\",\"special\":true},"                                           \
    "{\"id\":4,\"content\":\"[MASK]\",\"special\":true,\"lstrip\":true}]"
#define SMALL_NORMALIZER "{\"type\":\"BertNormalizer\",\"lowercase\":true}"
#define SMALL_PRETOKENIZER "{\"type\":\"BertPreTokenizer\"}"
#define SMALL_TEMPLATE                                                                             \
    "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"[CLS]\","            \
    "\"type_id\":0}},{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},{\"SpecialToken\":{\"id\":"       \
    "\"[SEP]\",\"type_id\":0}}],\"pair\":[{\"SpecialToken\":{\"id\":\"[CLS]\",\"type_id\":0}},"    \
    "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},{\"SpecialToken\":{\"id\":\"[SEP]\","             \
    "\"type_id\":0}},{\"Sequence\":{\"id\":\"B\",\"type_id\":1}},{\"SpecialToken\":{\"id\":"       \
    "\"[SEP]\",\"type_id\":1}}],\"special_tokens\":{\"[CLS]\":{\"id\":\"[CLS]\",\"ids\":[2],"      \
    "\"tokens\":[\"[CLS]\"]},\"[SEP]\":{\"id\":\"[SEP]\",\"ids\":[3],\"tokens\":[\"[SEP]\"]}}}"
#define SMALL_VOCAB                                                                                \
    "{\"[PAD]\":0,\"[UNK]\":1,\"[CLS]\":2,\"[SEP]\":3,\"[MASK]\":4,\"a\":5,\"b\":6,\"##a\":7,"     \
    "\"##b\":8,\"hello\":9,\"world\":10,\"##ing\":11,\"retriev\":12,\"##al\":13,\",\":14,"         \
    "\".\":15,\"[\":16,\"]\":17,\"sep\":18,\"transformers\":19,\"##transformers\":20,"             \
    "\"\\u4e2d\":21,\"e\":22,\"##e\":23,\"!\":24,\"hell\":25,\"he\":26,\"##l\":27,\"##o\":28}"
#define SMALL_MODEL                                                                                \
    "{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"continuing_subword_prefix\":\"##\","        \
    "\"max_input_chars_per_word\":100,\"vocab\":" SMALL_VOCAB "}"
/* added_tokens, normalizer, pre_tokenizer, post_processor, model */
#define SMALL_JSON(added, normalizer, pretokenizer, post, model)                                   \
    "{\"version\":\"1.0\",\"added_tokens\":" added ",\"normalizer\":" normalizer                   \
    ",\"pre_tokenizer\":" pretokenizer ",\"post_processor\":" post ",\"model\":" model "}"
#define SMALL_TOKENIZER                                                                            \
    SMALL_JSON(SMALL_ADDED, SMALL_NORMALIZER, SMALL_PRETOKENIZER, SMALL_TEMPLATE, SMALL_MODEL)

#endif
