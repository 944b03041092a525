package main

import (
	"gobuild/internal/goal"
	"gobuild/internal/store/finalise"
)

// childRows are the jobs for which this program starts itself again. They are
// looked up before anything else is set up. The sandbox's init is not here: it
// runs before Go does.
var childRows = map[string]func(args []string) int{
	goal.FinaliseChild:    func([]string) int { return finalise.Main() },
	goal.CompressLogChild: func([]string) int { return goal.CompressLogMain() },
	goal.RemoveChild:      goal.RemoveMain,
}
