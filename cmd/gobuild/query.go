package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"gobuild/internal/store"
	"gobuild/internal/store/storepath"
)

// A question is one that the store can answer about paths.
type question struct {
	name, short string
	ask         func(*session, []string) ([]storepath.Path, error)
}

// questions are those whose answer is a list of paths.
func questions() []question {
	return []question{
		{"references", "the paths that PATHs refer to", each((*store.Store).References)},
		{"referrers", "the valid paths that refer to PATHs", each((*store.Store).Referrers)},
		{"requisites", "the closure of PATHs: themselves and all that they refer to, directly or not", closure((*store.Store).Closure)},
		{"referrers-closure", "PATHs and all that refers to them, directly or not", closure((*store.Store).ReferrersClosure)},
		{"outputs", "the output paths of derivations", (*session).outputs},
		{"deriver", "the derivation from which each PATH was built", (*session).derivers},
		{"valid-derivers", "the valid derivations that have PATHs as outputs", each((*store.Store).ValidDerivers)},
	}
}

func (a *app) queryCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "query QUESTION PATH...",
		Short: "Ask what the store knows about paths",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	for _, q := range questions() {
		asJSON := false
		sub := &cobra.Command{
			Use: q.name + " PATH...", Short: "Print " + q.short, Args: cobra.MinimumNArgs(1),
			RunE: func(_ *cobra.Command, args []string) error { return a.askPaths(q, args, asJSON) },
		}
		sub.Flags().BoolVar(&asJSON, "json", false, "print a JSON array")
		c.AddCommand(sub)
	}
	c.AddCommand(a.infoCommand(), a.treeCommand(), a.graphCommand(), a.queryFailedCommand("failed"))
	return c
}

func (a *app) askPaths(q question, args []string, asJSON bool) error {
	s, err := a.open(reading, args...)
	if err != nil {
		return err
	}
	defer s.close()
	paths, err := q.ask(s, args)
	if err != nil {
		return err
	}
	if asJSON {
		return s.printJSON(append([]storepath.Path{}, paths...))
	}
	for _, p := range paths {
		if err := s.print(string(p)); err != nil {
			return err
		}
	}
	return nil
}

// each asks for every path in turn and joins the answers, sorted.
func each(ask func(*store.Store, storepath.Path) ([]storepath.Path, error)) func(*session, []string) ([]storepath.Path, error) {
	return func(s *session, args []string) ([]storepath.Path, error) {
		paths, err := s.validPaths(args)
		if err != nil {
			return nil, err
		}
		var all []storepath.Path
		for _, p := range paths {
			some, err := ask(s.store, p)
			if err != nil {
				return nil, err
			}
			all = append(all, some...)
		}
		slices.Sort(all)
		return slices.Compact(all), nil
	}
}

func closure(ask func(*store.Store, ...storepath.Path) ([]storepath.Path, error)) func(*session, []string) ([]storepath.Path, error) {
	return func(s *session, args []string) ([]storepath.Path, error) {
		paths, err := s.validPaths(args)
		if err != nil {
			return nil, err
		}
		return ask(s.store, paths...)
	}
}

// validPaths are the objects named by arguments, outputs of derivations chosen
// with '!' or '^' included; all must be valid.
func (s *session) validPaths(args []string) ([]storepath.Path, error) {
	var paths []storepath.Path
	for _, arg := range args {
		specs, err := s.specs([]string{arg})
		if err != nil {
			return nil, err
		}
		found := []storepath.Path{specs[0].Path}
		if !specs[0].Bare {
			outputs, err := s.outputsOf(specs[0])
			if err != nil {
				return nil, err
			}
			found = found[:0]
			for _, o := range outputs {
				found = append(found, o.Path)
			}
		}
		for _, p := range found {
			if valid, err := s.store.IsValid(p); err != nil || !valid {
				return nil, invalidPath(p, err)
			}
		}
		paths = append(paths, found...)
	}
	return paths, nil
}

func invalidPath(p storepath.Path, err error) error {
	if err != nil {
		return err
	}
	return fmt.Errorf("path '%s' %w", p, store.ErrInvalidPath)
}

// outputs are the outputs of derivations, whether they are valid or not.
func (s *session) outputs(args []string) ([]storepath.Path, error) {
	specs, err := s.specs(args)
	if err != nil {
		return nil, err
	}
	var paths []storepath.Path
	for _, spec := range specs {
		if !spec.Path.IsDerivation() {
			return nil, fmt.Errorf("path '%s' is not a derivation, so it has no outputs", spec.Path)
		}
		outputs, err := s.outputsOf(spec)
		if err != nil {
			return nil, err
		}
		for _, o := range outputs {
			if o.Path != "" {
				paths = append(paths, o.Path)
			}
		}
	}
	return paths, nil
}

// unknownDeriver is printed where no deriver is recorded, as Nix does.
const unknownDeriver = "unknown-deriver"

func (s *session) derivers(args []string) ([]storepath.Path, error) {
	paths, err := s.validPaths(args)
	if err != nil {
		return nil, err
	}
	derivers := make([]storepath.Path, len(paths))
	for i, p := range paths {
		info, err := s.store.Info(p)
		if err != nil {
			return nil, err
		}
		if derivers[i] = info.Deriver; info.Deriver == "" {
			derivers[i] = unknownDeriver
		}
	}
	return derivers, nil
}

func (a *app) infoCommand() *cobra.Command {
	asJSON := false
	c := &cobra.Command{
		Use: "info PATH...", Short: "Print all that is registered about PATHs", Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return a.info(args, asJSON) },
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print a JSON array")
	return c
}

// A pathInfo is what --json says of a path; the names are those of
// "nix path-info --json".
type pathInfo struct {
	Path             storepath.Path   `json:"path"`
	NarHash          string           `json:"narHash"`
	NarSize          uint64           `json:"narSize"`
	References       []storepath.Path `json:"references"`
	Deriver          storepath.Path   `json:"deriver,omitempty"`
	RegistrationTime int64            `json:"registrationTime"`
	Ultimate         bool             `json:"ultimate,omitempty"`
	Signatures       []string         `json:"signatures,omitempty"`
	CA               string           `json:"ca,omitempty"`
	Valid            bool             `json:"valid"`
}

func (a *app) info(args []string, asJSON bool) error {
	s, err := a.open(reading, args...)
	if err != nil {
		return err
	}
	defer s.close()
	paths, err := s.validPaths(args)
	if err != nil {
		return err
	}
	infos := make([]pathInfo, len(paths))
	for i, p := range paths {
		info, err := s.store.Info(p)
		if err != nil {
			return err
		}
		infos[i] = pathInfo{
			Path: p, NarHash: info.NarHash.SRI(), NarSize: info.NarSize, References: append([]storepath.Path{}, info.References...),
			Deriver: info.Deriver, RegistrationTime: info.Registered.Unix(), Ultimate: info.Ultimate,
			Signatures: info.Sigs, CA: info.CA.String(), Valid: true,
		}
	}
	if asJSON {
		return s.printJSON(infos)
	}
	for i, info := range infos {
		if i > 0 {
			fmt.Fprintln(s.stdout)
		}
		info.write(s)
	}
	return nil
}

// write prints the information a line per fact.
func (i pathInfo) write(s *session) {
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(s.stdout, "%-12s %s\n", name, value)
		}
	}
	line("path", string(i.Path))
	line("hash", i.NarHash)
	line("size", fmt.Sprint(i.NarSize))
	line("deriver", string(i.Deriver))
	line("content", i.CA)
	if i.Ultimate {
		line("built", "here")
	}
	line("signatures", strings.Join(i.Signatures, " "))
	for _, r := range i.References {
		line("reference", string(r))
	}
}
