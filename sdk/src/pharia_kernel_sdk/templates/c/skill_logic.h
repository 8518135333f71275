/* What the skill does, without the component around it, so that it can be tested anywhere. */
#ifndef SKILL_LOGIC_H
#define SKILL_LOGIC_H

#include <stdbool.h>
#include <stddef.h>

/* A text that is not zero-terminated; owned by whoever got it. */
typedef struct {
  char *bytes;
  size_t length;
} text;

/* Lets a model answer; its text is the caller's. */
typedef text (*chat_function)(const char *prompt, size_t length);

/* Decodes a JSON document that is one string. False if it is anything else. */
bool json_string(const char *json, size_t length, text *value);

/* Encodes a text in UTF-8 as a JSON string. */
text json_quoted(text value);

/* From a topic to a haiku, both JSON strings. False if the input is no string. */
bool haiku(const char *input, size_t length, chat_function chat, text *output);

#endif
