// Package fetch answers the engine's requests about binary caches: it looks
// paths up, and downloads, unpacks and verifies them, many at once
// (binary-cache spec, section 8). It is a job of the network program.
//
// Nothing that a cache says is believed. An archive may be as long as its
// narinfo, which somebody trusted has signed, promises, and not a byte longer;
// its hash must be the promised one, and that of the content address if the
// path has one; and it must be the canonical archive of the tree that it makes.
// Whatever is wrong, nothing of the tree stays behind.
package fetch
