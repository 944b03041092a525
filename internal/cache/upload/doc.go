// Package upload writes store paths to a binary cache: it is the job of the
// network program behind "gobuild copy --to". Archives are compressed and
// verified several at a time, and a path's narinfo is written when those of
// all its references are there, so that a cache never promises a closure that
// it does not have.
package upload
