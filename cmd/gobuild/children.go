package main

import (
	"gobuild/internal/goal"
	"gobuild/internal/logzip"
	"gobuild/internal/store/finalise"
)

// childRows are the jobs for which this program starts itself again. They are
// looked up before anything else is set up. The sandbox's init is not here: it
// runs before Go does.
var childRows = map[string]func(args []string) int{
	goal.FinaliseChild: func([]string) int { return finalise.Main() },
	goal.HashChild:     func([]string) int { return finalise.HashMain() },
	logzip.Child:       func([]string) int { return logzip.Main() },
	goal.RemoveChild:   goal.RemoveMain,
}
