// Package types has the WIT types that Go has no own ones for.
package types

// Unit is a result without a value.
type Unit struct{}

// The tags of options.
const (
	OptionNone = 0
	OptionSome = 1
)

// Option is a value, or none, which is its zero value.
type Option[T any] struct {
	tag   uint8
	value T
}

// None is no value.
func None[T any]() Option[T] {
	return Option[T]{}
}

// Some is a value.
func Some[T any](value T) Option[T] {
	return Option[T]{OptionSome, value}
}

// Tag is OptionNone or OptionSome.
func (o Option[T]) Tag() uint8 {
	return o.tag
}

// IsSome tells whether there is a value.
func (o Option[T]) IsSome() bool {
	return o.tag == OptionSome
}

// IsNone tells whether there is no value.
func (o Option[T]) IsNone() bool {
	return o.tag == OptionNone
}

// Some returns the value; it panics if there is none.
func (o Option[T]) Some() T {
	if o.IsNone() {
		panic("this option has no value")
	}
	return o.value
}

// SomeOr returns the value, or the alternative if there is none.
func (o Option[T]) SomeOr(alternative T) T {
	if o.IsNone() {
		return alternative
	}
	return o.value
}

// The tags of results.
const (
	ResultOk  = 0
	ResultErr = 1
)

// Result is what a call returned, or its error.
type Result[T any, E any] struct {
	tag uint8
	ok  T
	err E
}

// Ok is a success.
func Ok[T any, E any](value T) Result[T, E] {
	return Result[T, E]{tag: ResultOk, ok: value}
}

// Err is a failure.
func Err[T any, E any](err E) Result[T, E] {
	return Result[T, E]{tag: ResultErr, err: err}
}

// Tag is ResultOk or ResultErr.
func (r Result[T, E]) Tag() uint8 {
	return r.tag
}

// IsOk tells whether this is a success.
func (r Result[T, E]) IsOk() bool {
	return r.tag == ResultOk
}

// IsErr tells whether this is a failure.
func (r Result[T, E]) IsErr() bool {
	return r.tag == ResultErr
}

// Ok returns the value; it panics if this is a failure.
func (r Result[T, E]) Ok() T {
	if r.IsErr() {
		panic("this result is an error")
	}
	return r.ok
}

// Err returns the error; it panics if this is a success.
func (r Result[T, E]) Err() E {
	if r.IsOk() {
		panic("this result is no error")
	}
	return r.err
}
