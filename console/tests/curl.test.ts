import { describe, expect, it } from "vitest";
import { curl } from "../src/curl";

describe("curl", () => {
  it("quotes for a shell, and never has the token", () => {
    expect(curl("http://k/v1/skills/a/it's/run", `{"name":"O'Neil $HOME"}`, true, false)).toBe(
      `curl 'http://k/v1/skills/a/it'\\''s/run' \\
  -H 'Content-Type: application/json' \\
  -H "Authorization: Bearer $TOKEN" \\
  --data-raw '{"name":"O'\\''Neil $HOME"}'`,
    );
  });

  it("does not hold streams back", () => {
    expect(curl("http://k", "null", false, true)).toContain("curl -N ");
  });
});
