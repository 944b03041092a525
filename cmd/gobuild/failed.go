package main

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"gobuild/internal/store/storepath"
)

// queryFailedCommand goes by two names: that of old, and a question's.
func (a *app) queryFailedCommand(name string) *cobra.Command {
	asJSON := false
	c := &cobra.Command{
		Use:   name,
		Short: "Print the outputs whose builders are remembered to fail",
		Long: `This prints the outputs that realise does not try to build, because the setting
'cache-failure' was on when their builder failed; with --json also when that
was, why, and the end of the log.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return a.queryFailed(asJSON) },
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print a JSON array")
	return c
}

// A failedPath is what --json says of a failure.
type failedPath struct {
	Path    storepath.Path `json:"path"`
	Drv     storepath.Path `json:"drv,omitempty"`
	Time    int64          `json:"time"` // Unix, in seconds
	Message string         `json:"message,omitempty"`
	Log     []string       `json:"log,omitempty"` // last lines
}

func (a *app) queryFailed(asJSON bool) error {
	s, err := a.open(reading)
	if err != nil {
		return err
	}
	defer s.close()
	failures, err := s.store.Failures()
	if err != nil {
		return err
	}
	objects := make([]failedPath, len(failures))
	for i, f := range failures {
		objects[i] = failedPath{Path: f.Path, Drv: f.Drv, Time: f.When.Unix(), Message: f.Message, Log: f.Log}
	}
	if asJSON {
		return s.printJSON(objects)
	}
	for _, f := range objects {
		if err := s.print(string(f.Path)); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) clearFailedCommand() *cobra.Command {
	all := false
	c := &cobra.Command{
		Use:   "clear-failed-paths PATH...",
		Short: "Forget that the builders of outputs have failed",
		Long:  "Clear-failed-paths lets realise build PATHs again. A derivation stands for all of\nits outputs; --all is everything.",
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case all && len(args) > 0:
				return errors.New("flag '--all' allows no paths")
			case !all && len(args) == 0:
				return errors.New("requires paths, or '--all'")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error { return a.clearFailed(args, all) },
	}
	c.Flags().BoolVar(&all, "all", false, "forget all failures")
	return c
}

func (a *app) clearFailed(args []string, all bool) error {
	s, err := a.open(writing, args...)
	if err != nil {
		return err
	}
	defer s.close()
	if all {
		return s.store.ClearAllFailed()
	}
	paths, err := s.paths(args)
	if err != nil {
		return err
	}
	var outputs []storepath.Path
	for _, p := range paths {
		if outputs, err = s.appendFailed(outputs, p); err != nil {
			return err
		}
	}
	return s.store.ClearFailed(outputs...)
}

// appendFailed adds what a path stands for: the outputs of a derivation, as far
// as the derivation is there, and those that were recorded with it.
func (s *session) appendFailed(outputs []storepath.Path, p storepath.Path) ([]storepath.Path, error) {
	outputs = append(outputs, p)
	if !p.IsDerivation() {
		return outputs, nil
	}
	failures, err := s.store.Failures()
	if err != nil {
		return nil, err
	}
	for _, f := range failures {
		if f.Drv == p {
			outputs = append(outputs, f.Path)
		}
	}
	outline, err := s.store.Outline(p, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return outputs, nil
	}
	if err != nil {
		return nil, fmt.Errorf("finding the outputs of '%s': %w", p, err)
	}
	for _, o := range outline.Outputs {
		outputs = append(outputs, o.Path)
	}
	return outputs, nil
}
