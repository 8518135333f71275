package haiku

import "testing"

func TestTheHaikuIsWhatTheModelSays(t *testing.T) {
	input, err := ParseInput([]byte(`{"topic": "rain"}`))
	if err != nil {
		t.Fatal(err)
	}
	output := Write(input, func(model, said string) string {
		if model != defaultModel || said != "A haiku about rain." {
			t.Errorf("asked %q: %q", model, said)
		}
		return "Drops on the tin roof\n"
	})
	if output.Haiku != "Drops on the tin roof" {
		t.Errorf("got %q", output.Haiku)
	}
}

func TestItNeedsATopic(t *testing.T) {
	for _, wrong := range []string{"", "{}", `{"topic": 3}`, `{"topic": ""}`, `"rain"`} {
		if _, err := ParseInput([]byte(wrong)); err == nil {
			t.Errorf("%q was taken", wrong)
		}
	}
}
