/* The component: generated bindings on the one side, skill_logic on the other. */
#include <stdlib.h>
#include <string.h>

#include "generated/skill.h"
#include "skill_logic.h"

static const char model[] = "llama-3.1-8b-instruct";

static text answer_of(const char *prompt, size_t length) {
  pharia_skill_inference_message_t message = {.tag = PHARIA_SKILL_INFERENCE_MESSAGE_OTHER};
  skill_string_set(&message.val.other.role, "user");
  message.val.other.content = (skill_string_t){(uint8_t *)prompt, length};

  pharia_skill_inference_chat_request_t request = {.messages = {&message, 1}};
  skill_string_set(&request.model, model);
  request.params.max_tokens.is_some = true;
  request.params.max_tokens.val = 100;
  request.params.logprobs.tag = PHARIA_SKILL_INFERENCE_LOGPROBS_NO;

  pharia_skill_inference_list_chat_request_t requests = {&request, 1};
  pharia_skill_inference_list_chat_response_t responses;
  pharia_skill_inference_chat(&requests, &responses);

  skill_option_string_t content = responses.ptr[0].message.content;
  text answer = {malloc(content.is_some ? content.val.len + 1 : 1), 0};
  if (content.is_some) {
    answer.length = content.val.len;
    memcpy(answer.bytes, content.val.ptr, answer.length);
  }
  pharia_skill_inference_list_chat_response_free(&responses);
  return answer;
}

bool exports_pharia_skill_skill_handler_run(
    skill_list_u8_t *input, skill_list_u8_t *ret, exports_pharia_skill_skill_handler_error_t *err) {
  text output;
  bool fits = haiku((const char *)input->ptr, input->len, answer_of, &output);
  skill_list_u8_free(input);
  if (fits) {
    *ret = (skill_list_u8_t){(uint8_t *)output.bytes, output.length};
  } else {
    err->tag = EXPORTS_PHARIA_SKILL_SKILL_HANDLER_ERROR_INVALID_INPUT;
    skill_string_dup(&err->val.invalid_input, "expected a text, such as \"rain\"");
  }
  return fits;
}

static skill_list_u8_t schema(const char *json) {
  skill_string_t copy;
  skill_string_dup(&copy, json);
  return (skill_list_u8_t){copy.ptr, copy.len};
}

void exports_pharia_skill_skill_handler_metadata(
    exports_pharia_skill_skill_handler_skill_metadata_t *ret) {
  ret->description.is_some = true;
  skill_string_dup(&ret->description.val, "Writes a haiku.");
  ret->input_schema = schema("{\"type\": \"string\", \"description\": \"What to write about.\"}");
  ret->output_schema = schema("{\"type\": \"string\"}");
}
