//go:build !amd64

package config

// cpuLevel is the processor's x86-64 micro-architecture level: none here.
func cpuLevel() int { return 0 }
