#include "skill_logic.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

/* Four hexadecimal digits; -1 if they are none. */
static int32_t hexadecimal(const char *at) {
  int32_t value = 0;
  for (int i = 0; i < 4; i++) {
    const char *digits = "0123456789abcdef";
    char lower = at[i] >= 'A' && at[i] <= 'F' ? (char)(at[i] + 32) : at[i];
    const char *found = lower ? strchr(digits, lower) : NULL;
    if (!found) return -1;
    value = value * 16 + (int32_t)(found - digits);
  }
  return value;
}

static size_t utf8(uint32_t code, char *out) {
  if (code < 0x80) return out[0] = (char)code, 1;
  size_t more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
  static const uint8_t marks[] = {0, 0xC0, 0xE0, 0xF0};
  out[0] = (char)(marks[more] | (code >> (6 * more)));
  for (size_t i = 1; i <= more; i++)
    out[i] = (char)(0x80 | ((code >> (6 * (more - i))) & 0x3F));
  return more + 1;
}

/* Decodes the escape behind a backslash. Returns the bytes that were read; 0 if it is none. */
static size_t escape(const char *at, size_t left, char *out, size_t *written) {
  static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
  const char *simple = left && *at ? strchr(from, *at) : NULL;
  if (simple) return *out = to[simple - from], *written = 1, 1;
  if (left < 5 || *at != 'u') return 0;
  int32_t code = hexadecimal(at + 1);
  if (code < 0) return 0;
  if (code < 0xD800 || code > 0xDFFF) return *written = utf8((uint32_t)code, out), 5;
  if (code > 0xDBFF || left < 11 || at[5] != '\\' || at[6] != 'u') return 0;
  int32_t low = hexadecimal(at + 7);
  if (low < 0xDC00 || low > 0xDFFF) return 0;
  *written = utf8(0x10000u + (((uint32_t)code - 0xD800u) << 10) + ((uint32_t)low - 0xDC00u), out);
  return 11;
}

bool json_string(const char *json, size_t length, text *value) {
  while (length && is_space(json[length - 1])) length--;
  while (length && is_space(*json)) json++, length--;
  if (length < 2 || json[0] != '"' || json[length - 1] != '"') return false;
  value->bytes = malloc(length); /* an escape is never shorter than what it stands for */
  value->length = 0;
  size_t at = 1, end = length - 1;
  while (at < end) {
    char *out = value->bytes + value->length;
    size_t read = 1, written = 1;
    if (json[at] == '\\')
      read = escape(json + at + 1, end - at - 1, out, &written), read += read ? 1 : 0;
    else if (json[at] == '"' || (unsigned char)json[at] < 0x20)
      read = 0;
    else
      *out = json[at];
    if (!read) return free(value->bytes), false;
    at += read;
    value->length += written;
  }
  return true;
}

text json_quoted(text value) {
  text json = {malloc(value.length * 6 + 2), 0};
  json.bytes[json.length++] = '"';
  for (size_t i = 0; i < value.length; i++) {
    unsigned char c = (unsigned char)value.bytes[i];
    if (c < 0x20) {
      static const char digits[] = "0123456789abcdef";
      char escaped[] = {'\\', 'u', '0', '0', digits[c >> 4], digits[c & 15]};
      memcpy(json.bytes + json.length, escaped, sizeof escaped);
      json.length += sizeof escaped;
      continue;
    }
    if (c == '"' || c == '\\') json.bytes[json.length++] = '\\';
    json.bytes[json.length++] = (char)c;
  }
  json.bytes[json.length++] = '"';
  return json;
}

bool haiku(const char *input, size_t length, chat_function chat, text *output) {
  static const char request[] = "A haiku about ";
  text topic;
  if (!json_string(input, length, &topic)) return false;
  size_t size = sizeof request - 1 + topic.length;
  char *prompt = malloc(size);
  memcpy(prompt, request, sizeof request - 1);
  memcpy(prompt + sizeof request - 1, topic.bytes, topic.length);
  text answer = chat(prompt, size);
  *output = json_quoted(answer);
  free(answer.bytes);
  free(prompt);
  free(topic.bytes);
  return true;
}
