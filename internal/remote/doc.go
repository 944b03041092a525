// Package remote reaches the stores of other machines: it reads the list of
// machines, starts the program that leads to one (ssh, or whatever else carries
// two streams), speaks the serve protocol with it, and moves paths to and fro
// (hook spec, section 2.2; serve-protocol spec).
//
// A connection is one process, which carries everything in turn. What it says
// on its standard error is first kept, to explain why there is no connection,
// and then, when a build runs, it is the builder's output.
package remote
