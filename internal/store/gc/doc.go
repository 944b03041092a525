// Package gc finds out what keeps store paths alive, and deletes paths that
// nothing keeps, beside whoever uses the store meanwhile (database spec,
// sections 6 to 8).
//
// A collection holds the store's garbage collector lock. Who wants to keep
// another path meanwhile tells the collection's server, the one goroutine of
// this package; it has ended when the function that started it returns.
package gc
