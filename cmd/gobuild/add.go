package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"gobuild/internal/store"
	"gobuild/internal/store/digest"
	"gobuild/internal/store/storepath"
)

func (a *app) addCommand() *cobra.Command {
	name := ""
	c := &cobra.Command{
		Use:   "add PATH...",
		Short: "Copy files or trees to the store and print their store paths",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return a.add(store.Addition{Name: name, Method: storepath.NAR, Algorithm: digest.SHA256}, args)
		},
	}
	c.Flags().StringVar(&name, "name", "", "call the object `NAME` instead of what the path is called")
	return c
}

func (a *app) addFixedCommand() *cobra.Command {
	name, recursive := "", false
	c := &cobra.Command{
		Use:   "add-fixed ALGORITHM FILE...",
		Short: "Copy files to the store under the paths that fixed outputs with their hash have",
		Long:  "Add-fixed adds files at the store paths of fixed-output derivations that promise\ntheir hash, as if those had been built. ALGORITHM is md5, sha1, sha256 or sha512.",
		Args:  cobra.MinimumNArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			algo, err := digest.ParseAlgorithm(args[0])
			if err != nil {
				return err
			}
			method := storepath.Flat
			if recursive {
				method = storepath.NAR
			}
			return a.add(store.Addition{Name: name, Method: method, Algorithm: algo}, args[1:])
		},
	}
	c.Flags().BoolVar(&recursive, "recursive", false, "hash the archive of a file or tree instead of a file's bytes")
	c.Flags().StringVar(&name, "name", "", "call the object `NAME` instead of what the file is called")
	return c
}

func (a *app) add(what store.Addition, args []string) error {
	s, err := a.open(writing)
	if err != nil {
		return err
	}
	defer s.close()
	if what.Name != "" && len(args) > 1 {
		return fmt.Errorf("flag '--name' is for one path, and there are %d", len(args))
	}
	for _, arg := range args {
		if err := absolute(&arg); err != nil {
			return err
		}
		one := what
		if one.Name == "" {
			one.Name = filepath.Base(filepath.Clean(arg))
		}
		p, err := s.store.AddTree(one, arg)
		if err != nil {
			return fmt.Errorf("adding '%s' to the store: %w", arg, err)
		}
		if err := s.print(string(p)); err != nil {
			return err
		}
	}
	return nil
}
