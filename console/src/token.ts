// The bearer token lives as long as the tab, and nowhere else.
const KEY = "pharia-kernel-token";

export function token(): string {
  return sessionStorage.getItem(KEY) ?? "";
}

export function setToken(value: string): void {
  if (value) sessionStorage.setItem(KEY, value);
  else sessionStorage.removeItem(KEY);
}
