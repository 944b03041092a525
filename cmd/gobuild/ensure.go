package main

import (
	"time"

	"github.com/spf13/cobra"
)

func (a *app) ensurePathCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "ensure-path PATH...",
		Short: "Fetch store paths that are not there",
		Long: `Ensure-path makes paths valid by fetching them, with all that they refer to, from
the binary caches and programs that the settings name. Nothing is built: a
derivation stands for its own file.

It prints nothing when all paths are there at its end.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return a.ensurePaths(args) },
	}
	a.addSubstituteFlags(c)
	return c
}

// addSubstituteFlags adds the settings of fetching that have flags of their own.
func (a *app) addSubstituteFlags(c *cobra.Command) {
	f := c.Flags()
	f.Var(&optionFlag{a: a, setting: "substituters"}, "substituters", "fetch from the caches at these `URLS`, separated by spaces")
	f.VarPF(&optionFlag{a: a, setting: "substitute", isBool: true, negated: true}, "no-substitute", "", "fetch nothing").NoOptDefVal = "true"
}

func (a *app) ensurePaths(args []string) error {
	s, err := a.open(writing, args...)
	if err != nil {
		return err
	}
	defer s.close()
	paths, err := s.paths(args)
	if err != nil {
		return err
	}
	missing := paths[:0]
	for _, p := range paths {
		valid, err := s.store.IsValid(p)
		if err != nil {
			return err
		}
		if !valid {
			missing = append(missing, p)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	engine, err := s.engine()
	if err != nil {
		return err
	}
	defer engine.Close()
	begin := time.Now()
	_, err = engine.Ensure(missing)
	s.logger().Summary(time.Since(begin))
	return err
}
