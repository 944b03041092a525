package main

import (
	"github.com/spf13/cobra"

	"gobuild/internal/protocol"
	"gobuild/internal/store/archive"
)

func (a *app) exportCommand() *cobra.Command {
	return &cobra.Command{
		Use: "export PATH...", Short: "Write valid paths to standard output, for 'import' elsewhere", Args: cobra.MinimumNArgs(1),
		Long: "Writes exactly the paths named, in the format of 'nix-store --export'. For all that\nthey need, name the result of 'query --requisites'.",
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := a.open(reading, args...)
			if err != nil {
				return err
			}
			defer s.close()
			paths, err := s.paths(args)
			if err != nil {
				return err
			}
			return archive.Export(protocol.NewWriter(a.stdout), s.store, paths)
		},
	}
}

func (a *app) importCommand() *cobra.Command {
	return &cobra.Command{
		Use: "import", Short: "Make the paths in an export on standard input valid", Args: cobra.NoArgs,
		Long: "Reads what 'export' or 'nix-store --export' has written, and prints the paths. What they\nrefer to must be valid or come before them. Nobody's word is asked for: import only what\ncomes from somebody you trust.",
		RunE: func(*cobra.Command, []string) error {
			s, err := a.open(writing)
			if err != nil {
				return err
			}
			defer s.close()
			paths, err := archive.Import(protocol.NewReader(a.stdin), s.store, nil)
			for _, p := range paths {
				if err := a.print(string(p)); err != nil {
					return err
				}
			}
			return err
		},
	}
}
