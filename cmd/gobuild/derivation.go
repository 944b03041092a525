package main

import (
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"gobuild/internal/store/drv/drvjson"
	"gobuild/internal/store/storepath"
)

func (a *app) derivationCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "derivation", Aliases: []string{"drv"}, Short: "Make derivations from JSON, and show them as JSON", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.derivationAddCommand(), a.derivationShowCommand())
	return c
}

func (a *app) derivationAddCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "add [FILE...]",
		Short: "Add derivations in JSON to the store and print their paths",
		Long: `Add reads derivations in JSON from FILEs or standard input: one, or an object of
them by path as "derivation show" prints it. Output paths, and the variables
that hold them, may be left out; they are computed.`,
		Example: `  gobuild derivation add <<'END'
  {"name": "hello", "system": "x86_64-linux", "builder": "/bin/sh",
   "args": ["-c", "echo hello > $out"], "env": {}, "inputSrcs": [], "inputDrvs": {},
   "outputs": {"out": {}}}
  END`,
		RunE: func(_ *cobra.Command, args []string) error { return a.derivationAdd(args) },
	}
}

func (a *app) derivationAdd(files []string) error {
	s, err := a.open(writing)
	if err != nil {
		return err
	}
	defer s.close()
	if len(files) == 0 {
		files = []string{"-"}
	}
	for _, name := range files {
		text, err := a.read(name)
		if err != nil {
			return err
		}
		entries, err := drvjson.Parse(s.store.Dir(), text, s.store.Derivation)
		if err != nil {
			return fmt.Errorf("reading a derivation from '%s': %w", name, err)
		}
		for _, e := range entries {
			p, err := s.store.AddDerivation(e.Drv)
			if err != nil {
				return fmt.Errorf("adding the derivation '%s': %w", e.Drv.Name, err)
			}
			if err := s.print(string(p)); err != nil {
				return err
			}
		}
	}
	return nil
}

// read reads a file, or standard input if it is called "-".
func (a *app) read(name string) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(a.stdin)
	}
	return os.ReadFile(name)
}

func (a *app) derivationShowCommand() *cobra.Command {
	form, recursive := 2, false
	c := &cobra.Command{
		Use: "show DRV...", Short: "Print derivations as JSON", Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return a.derivationShow(drvjson.Version(form), recursive, args)
		},
	}
	c.Flags().IntVar(&form, "format", form, "`VERSION` of the JSON form, 1 to 4")
	c.Flags().BoolVarP(&recursive, "recursive", "r", false, "show the derivations that they need, too")
	return c
}

func (a *app) derivationShow(v drvjson.Version, recursive bool, args []string) error {
	s, err := a.open(reading, args...)
	if err != nil {
		return err
	}
	defer s.close()
	specs, err := s.specs(args)
	if err != nil {
		return err
	}
	var paths []storepath.Path
	for _, spec := range specs {
		p := spec.Path
		if !p.IsDerivation() {
			info, err := s.store.Info(p)
			if err != nil {
				return err
			}
			if p = info.Deriver; p == "" {
				return fmt.Errorf("it is not known which derivation made '%s'", info.Path)
			}
		}
		paths = append(paths, p)
	}
	if recursive {
		if paths, err = s.store.Closure(paths...); err != nil {
			return err
		}
		paths = slices.DeleteFunc(paths, func(p storepath.Path) bool { return !p.IsDerivation() })
	}
	slices.Sort(paths)
	var entries []drvjson.Entry
	for _, p := range slices.Compact(paths) {
		d, err := s.store.Derivation(p)
		if err != nil {
			return err
		}
		entries = append(entries, drvjson.Entry{Path: p, Drv: d})
	}
	text, err := drvjson.Show(v, entries)
	if err != nil {
		return err
	}
	_, err = s.stdout.Write(text)
	return err
}
