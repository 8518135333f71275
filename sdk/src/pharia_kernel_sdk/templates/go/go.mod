module my_skill

go 1.25.0

require go.bytecodealliance.org/pkg v0.4.0

// What the generated bindings need, without what needs more than a kernel has.
replace go.bytecodealliance.org/pkg => ./abi
