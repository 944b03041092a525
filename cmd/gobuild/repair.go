package main

import (
	"time"

	"github.com/spf13/cobra"
)

func (a *app) repairPathCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "repair-path PATH...",
		Short: "Replace the files of store paths by good ones",
		Long: `Repair-path fetches the contents of valid paths once more from the binary caches
and programs that the settings name. A path that nobody offers is built again by
the derivation that made it, if that is still there and the path's contents are
not what was registered.

A path that is in use is replaced in one step; programs that run go on with the
old files.

Exit status: 0 all is well; 100 a build failed; 1 a path cannot be repaired.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return a.repairPaths(args) },
	}
	a.addBuildFlags(c)
	a.addSubstituteFlags(c)
	return c
}

func (a *app) repairPaths(args []string) error {
	s, err := a.open(writing, args...)
	if err != nil {
		return err
	}
	defer s.close()
	paths, err := s.paths(args)
	if err != nil {
		return err
	}
	engine, err := s.engine()
	if err != nil {
		return err
	}
	defer engine.Close()
	begin := time.Now()
	err = engine.RepairPaths(paths)
	s.logger().Summary(time.Since(begin))
	return err
}
