// Package runtime is how the generated bindings hold memory and handles that the kernel uses, too.
package runtime

import (
	"runtime"
	"unsafe"
)

// Allocate returns memory for size bytes that stays where it is as long as it is pinned. The
// alignment is that of 64-bit numbers, the greatest that WIT types have.
func Allocate(pinner *runtime.Pinner, size, align uintptr) unsafe.Pointer {
	if size == 0 {
		return nil
	}
	memory := unsafe.Pointer(unsafe.SliceData(make([]uint64, (size+7)/8)))
	pinner.Pin(memory)
	return memory
}

// Unpin is called when an exported function has its arguments. They need no release, see
// cabiRealloc.
func Unpin() {}

// Handle is a resource that this component owns, until it is taken.
type Handle struct {
	value int32
}

// MakeHandle wraps what the kernel returned.
func MakeHandle(value int32) *Handle {
	handle := &Handle{}
	handle.Set(value)
	return handle
}

// Use returns the handle for a call that borrows it.
func (h *Handle) Use() int32 {
	if h.value == 0 {
		panic("this resource was dropped or given away")
	}
	return h.value
}

// Take returns the handle for a call that owns it from now on.
func (h *Handle) Take() int32 {
	value := h.Use()
	h.value = 0
	return value
}

// TakeOrNil is Take, and 0 if there is no handle any more.
func (h *Handle) TakeOrNil() int32 {
	value := h.value
	h.value = 0
	return value
}

// Set gives a handle to a resource that has none.
func (h *Handle) Set(value int32) {
	if h.value != 0 || value == 0 {
		panic("this resource can't have that handle")
	}
	h.value = value
}
