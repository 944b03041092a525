package sandbox

// init.c is compiled into the program for its constructor alone; nothing in Go
// calls it. A comment directly above the import would be C.

import "C"
