package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"gobuild/internal/activity"
	"gobuild/internal/store/gc"
)

func (a *app) deleteCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "delete PATH...",
		Short: "Delete paths from the store unless something still needs them",
		Args:  cobra.MinimumNArgs(1),
		RunE:  func(_ *cobra.Command, args []string) error { return a.delete(args) },
	}
}

func (a *app) delete(args []string) error {
	s, err := a.open(writing, args...)
	if err != nil {
		return err
	}
	defer s.close()
	paths, err := s.paths(args)
	if err != nil {
		return err
	}
	say := func(text string) { a.logger().Message(activity.Info, text) }
	deleted, freed, err := gc.Delete(s.store, gc.Options{
		KeepOutputs: s.settings.KeepOutputs, KeepDerivations: s.settings.KeepDerivations, Report: say,
	}, paths...)
	for _, p := range deleted {
		if err := s.print(string(p)); err != nil {
			return err
		}
	}
	if len(deleted) > 0 || err == nil {
		say(fmt.Sprintf("%d store paths deleted, %.2f MiB freed", len(deleted), float64(freed)/(1<<20)))
	}
	return err
}
