// The functions of the kernel that this skill uses, as wit/skill.wit has them: records are objects, options may be
// undefined, variants have a tag and a value. Add what else you need; the WIT documents all of it.

declare module 'pharia:skill/inference@0.4.0' {
  export type FinishReason = 'stop' | 'length' | 'content-filter' | 'tool-calls';

  export type Logprobs = { tag: 'no' } | { tag: 'sampled' } | { tag: 'top'; val: number };

  export type Message = { tag: 'other'; val: { role: string; content: string } };

  export interface ChatParams {
    maxTokens?: number;
    temperature?: number;
    topP?: number;
    logprobs: Logprobs;
  }

  export interface ChatRequest {
    model: string;
    messages: Message[];
    params: ChatParams;
  }

  export interface ChatResponse {
    message: { content?: string; reasoningContent?: string };
    finishReason: FinishReason;
    usage: { prompt: number; completion: number };
  }

  export function chat(requests: ChatRequest[]): ChatResponse[];
}
