//! The component: bindings on the one side, `haiku` on the other.

pub mod haiku;

#[cfg(target_family = "wasm")]
mod component {
    use crate::haiku::{haiku, Input};
    use exports::pharia::skill::skill_handler::{Error, Guest, SkillMetadata};
    use pharia::skill::inference::{
        chat, ChatParams, ChatRequest, Logprobs, Message, OtherMessage,
    };
    use serde_json::json;

    wit_bindgen::generate!({ world: "skill", path: "wit" });

    struct Skill;

    impl Guest for Skill {
        fn run(input: Vec<u8>) -> Result<Vec<u8>, Error> {
            let input: Input = serde_json::from_slice(&input)
                .map_err(|error| Error::InvalidInput(error.to_string()))?;
            serde_json::to_vec(&haiku(&input, ask))
                .map_err(|error| Error::Internal(error.to_string()))
        }

        fn metadata() -> SkillMetadata {
            let input = json!({
                "type": "object",
                "properties": {"topic": {"type": "string"}, "model": {"type": "string"}},
                "required": ["topic"],
            });
            let output = json!({
                "type": "object",
                "properties": {"haiku": {"type": "string"}},
                "required": ["haiku"],
            });
            SkillMetadata {
                description: Some("Writes a haiku.".into()),
                input_schema: input.to_string().into_bytes(),
                output_schema: output.to_string().into_bytes(),
            }
        }
    }

    fn ask(model: &str, said: &str) -> String {
        let message = OtherMessage { role: "user".into(), content: said.into() };
        let answers = chat(&[ChatRequest {
            model: model.into(),
            messages: vec![Message::Other(message)],
            params: ChatParams {
                max_tokens: Some(100),
                max_completion_tokens: None,
                temperature: None,
                top_p: None,
                frequency_penalty: None,
                presence_penalty: None,
                logprobs: Logprobs::No,
                tools: None,
                tool_choice: None,
                parallel_tool_calls: None,
                response_format: None,
                reasoning_effort: None,
            },
        }]);
        let answer = answers.into_iter().next().expect("one answer for one request");
        answer.message.content.unwrap_or_default()
    }

    export!(Skill);
}
