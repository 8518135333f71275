// Package export_pharia_skill_skill_handler is the component: the kernel on the one side, haiku on
// the other. The generated code asks for its name.
package export_pharia_skill_skill_handler

import (
	"encoding/json"

	wit "go.bytecodealliance.org/pkg/wit/types"

	"my_skill/haiku"
	inference "my_skill/imports/pharia_skill_inference"
	handler "my_skill/imports/pharia_skill_skill_handler"
)

const (
	inputSchema = `{
  "type": "object",
  "properties": {"topic": {"type": "string", "minLength": 1}, "model": {"type": "string"}},
  "required": ["topic"]
}`
	outputSchema = `{
  "type": "object",
  "properties": {"haiku": {"type": "string"}},
  "required": ["haiku"]
}`
)

// Run answers one request.
func Run(input []uint8) wit.Result[[]uint8, handler.Error] {
	request, err := haiku.ParseInput(input)
	if err != nil {
		return wit.Err[[]uint8](handler.MakeErrorInvalidInput(err.Error()))
	}
	output, err := json.Marshal(haiku.Write(request, ask))
	if err != nil {
		return wit.Err[[]uint8](handler.MakeErrorInternal(err.Error()))
	}
	return wit.Ok[[]uint8, handler.Error](output)
}

// Metadata describes the skill.
func Metadata() handler.SkillMetadata {
	return handler.SkillMetadata{
		Description:  wit.Some("Writes a haiku."),
		InputSchema:  []byte(inputSchema),
		OutputSchema: []byte(outputSchema),
	}
}

func ask(model, said string) string {
	message := inference.OtherMessage{Role: "user", Content: said}
	answers := inference.Chat([]inference.ChatRequest{{
		Model:    model,
		Messages: []inference.Message{inference.MakeMessageOther(message)},
		Params: inference.ChatParams{
			MaxTokens: wit.Some(uint32(100)),
			Logprobs:  inference.MakeLogprobsNo(),
		},
	}})
	return answers[0].Message.Content.SomeOr("")
}
