/** In single quotes of a POSIX shell. */
export function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

/** The same request for a terminal. The token is taken from the environment: what is copied ends up
 * in histories and chats. */
export function curl(target: string, body: string, withToken: boolean, stream: boolean): string {
  const lines = [
    `curl ${stream ? "-N " : ""}${quoted(target)}`,
    "-H 'Content-Type: application/json'",
    ...(withToken ? ['-H "Authorization: Bearer $TOKEN"'] : []),
    `--data-raw ${quoted(body)}`,
  ];
  return lines.join(" \\\n  ");
}
