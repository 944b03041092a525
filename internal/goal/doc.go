// Package goal decides what must be done to make store paths valid: the Engine
// and its two kinds of goals, Derivation and Substitution, which the worker
// steps through their states.
//
// A state is a method that says what it knows on entry, acts, and returns the
// next state and what to wait for. No state sleeps, none touches a queue. What
// only exists while a builder runs lives in an attempt, so that giving it back
// is one method.
//
//	Derivation
//	  start ─► haveDerivation ─► outputsTried ─► inputsRealised ─► tryToBuild
//	     ─► builderExited ─► outputsFinalised ─► done
//	Substitution
//	  start ─► done
//
// Nothing here is safe for concurrent use: there is one thread of control.
package goal
