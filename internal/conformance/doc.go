// Package conformance holds the tests that build the same derivations with real Nix and with gobuild and compare what they leave behind.
package conformance
