#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "skill_logic.h"

static char asked[100];

static text chat(const char *prompt, size_t length) {
  memcpy(asked, prompt, length);
  asked[length] = 0;
  const char *said = "Drops on\n\"the\" roof";
  text answer = {malloc(strlen(said)), strlen(said)};
  memcpy(answer.bytes, said, answer.length);
  return answer;
}

static void check(const char *input, const char *prompt) {
  text output;
  assert(haiku(input, strlen(input), chat, &output));
  assert(strcmp(asked, prompt) == 0);
  const char *expected = "\"Drops on\\u000a\\\"the\\\" roof\"";
  assert(output.length == strlen(expected) && !memcmp(output.bytes, expected, output.length));
  free(output.bytes);
}

int main(void) {
  check(" \"rain\" ", "A haiku about rain");
  check("\"\\u00fc\\\"\\ud83d\\ude00\"", "A haiku about \xc3\xbc\"\xf0\x9f\x98\x80");

  const char *wrong[] = {"", "{}", "3", "\"", "\"\\\"", "\"\\x\"", "\"\\u12\"", "\"\\ud800\"", "\"a\"b\""};
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    text output;
    assert(!haiku(wrong[i], strlen(wrong[i]), chat, &output));
  }
  puts("all tests passed");
}
