// Package worker decides when each goal does its next piece of work: one event
// loop over child processes, the edges between goals, job slots and time
// limits. It knows goals only by the interface Goal, so it schedules fake
// goals as readily as real ones.
//
// Everything runs on the caller's goroutine, and nothing here is safe for
// concurrent use. A goal never puts itself into a queue: its Step returns what
// it waits for, and the worker parks it in the one place where that is done.
//
//	awake ──Step──► Wait ──park──► waiting for goals │ exit │ signal │ slot │ any goal │ a while
//	  ▲                                                   │
//	  └────────────────────── woken ◄─────────────────────┘
//
// Order is a promise: goals that are awake together run in the order of their
// keys, waiters are woken first come first served, and no decision depends on
// the order of a map. The same goals with the same clock and the same children
// give the same trace.
package worker
