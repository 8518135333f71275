//! What the skill does, without the component around it, so that it can be tested anywhere.

use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
pub struct Input {
    pub topic: String,
    #[serde(default = "default_model")]
    pub model: String,
}

#[derive(Serialize, Debug, PartialEq)]
pub struct Output {
    pub haiku: String,
}

fn default_model() -> String {
    "llama-3.1-8b-instruct".into()
}

/// Lets the model write a haiku. `chat` takes a model and what a user says, and answers.
pub fn haiku(input: &Input, chat: impl FnOnce(&str, &str) -> String) -> Output {
    let answer = chat(&input.model, &format!("A haiku about {}.", input.topic));
    Output { haiku: answer.trim().into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_haiku_is_what_the_model_says() {
        let input: Input = serde_json::from_str(r#"{"topic": "rain"}"#).unwrap();
        let output = haiku(&input, |model, said| {
            assert_eq!((model, said), ("llama-3.1-8b-instruct", "A haiku about rain."));
            "Drops on the tin roof\n".into()
        });
        assert_eq!(output, Output { haiku: "Drops on the tin roof".into() });
    }

    #[test]
    fn it_needs_a_topic() {
        assert!(serde_json::from_str::<Input>("{}").is_err());
    }
}
