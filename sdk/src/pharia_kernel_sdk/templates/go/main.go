package main

import _ "my_skill/exports/wit_exports"

// The kernel calls the exported functions, never this one.
func main() {}
