// Package haiku is what the skill does, without the component around it, so that it can be tested
// anywhere.
package haiku

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

const defaultModel = "llama-3.1-8b-instruct"

// Input is what callers send.
type Input struct {
	Topic string `json:"topic"`
	Model string `json:"model"`
}

// Output is what they get.
type Output struct {
	Haiku string `json:"haiku"`
}

// Chat lets a model answer what a user says.
type Chat func(model, said string) string

// ParseInput decodes and checks what a caller sent.
func ParseInput(document []byte) (Input, error) {
	input := Input{Model: defaultModel}
	if err := json.Unmarshal(document, &input); err != nil {
		return Input{}, err
	}
	if input.Topic == "" {
		return Input{}, errors.New("`topic` is missing: a text, such as \"rain\"")
	}
	return input, nil
}

// Write lets the model write a haiku.
func Write(input Input, chat Chat) Output {
	answer := chat(input.Model, fmt.Sprintf("A haiku about %s.", input.Topic))
	return Output{Haiku: strings.TrimSpace(answer)}
}
