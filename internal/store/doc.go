// Package store is the local store: which paths are valid and what they refer
// to, kept in a SQLite database that other programs use at the same time, and
// the store directory itself.
//
// Every fact about files, tables and locks is in the database spec; other
// implementations rely on it. A Store is used by one goroutine only. What may
// be changed by another process between two calls must be asked again under
// the path's lock.
package store
