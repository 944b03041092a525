// Package hook speaks the protocols of the programs that an engine calls: build
// hooks, old and new, which may take builds to other machines, and substituter
// programs, which fetch store paths (hook spec; binary-cache spec, section 9).
//
// Requests are made and replies read here, byte by byte as they come; nothing
// waits, and nothing decides when to ask whom. Nothing is safe for concurrent
// use.
//
// A build hook's life, by what it is sent and what it says:
//
//	started ──request──► asked ──"# decline", "# postpone"──► idle ──request──► asked …
//	                       │
//	                       └──"# accept"──► the paths it needs ──end of input──► builds, exits
package hook
