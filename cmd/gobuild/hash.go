package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"gobuild/internal/store/digest"
	"gobuild/internal/store/nar"
)

type hashOptions struct {
	algo, format string
	flat         bool
}

func (a *app) hashCommand() *cobra.Command {
	var o hashOptions
	c := &cobra.Command{
		Use:   "hash PATH...",
		Short: "Print the hash of files or trees",
		Long:  "Hash prints the hash of the archive (NAR) of each path, which is how the store\nidentifies trees, or with --flat the hash of a file's bytes.",
		Args:  cobra.MinimumNArgs(1),
		RunE:  func(_ *cobra.Command, args []string) error { return a.hash(o, args) },
	}
	f := c.PersistentFlags()
	f.StringVar(&o.algo, "type", "sha256", "`ALGORITHM`: md5, sha1, sha256 or sha512")
	f.StringVar(&o.format, "format", "sri", "`FORM` of the result: sri, base16, base32 or base64")
	c.Flags().BoolVar(&o.flat, "flat", false, "hash the bytes of a file instead of its archive")
	c.AddCommand(&cobra.Command{
		Use: "convert HASH...", Short: "Print hashes in another form", Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.convertHashes(o, c.Flags().Changed("type"), args)
		},
	})
	return c
}

func (a *app) hash(o hashOptions, args []string) error {
	algo, err := digest.ParseAlgorithm(o.algo)
	if err != nil {
		return err
	}
	for _, arg := range args {
		h := algo.New()
		if o.flat {
			err = copyFile(h, arg)
		} else {
			err = nar.Dump(h, arg)
		}
		if err != nil {
			return fmt.Errorf("hashing '%s': %w", arg, err)
		}
		if err := a.printHash(digest.FromHash(algo, h), o.format); err != nil {
			return err
		}
	}
	return nil
}

func copyFile(w io.Writer, name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

func (a *app) convertHashes(o hashOptions, typed bool, args []string) error {
	want := digest.Unknown
	for _, arg := range args {
		if typed || !strings.ContainsAny(arg, ":-") {
			var err error
			if want, err = digest.ParseAlgorithm(o.algo); err != nil {
				return err
			}
		}
		d, err := digest.Parse(arg, want)
		if err != nil {
			return err
		}
		if err := a.printHash(d, o.format); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) printHash(d digest.Digest, format string) error {
	switch format {
	case "sri":
		return a.print(d.SRI())
	case "base16", "hex":
		return a.print(d.Hex())
	case "base32", "nix32":
		return a.print(d.Nix32())
	case "base64":
		return a.print(d.Base64())
	}
	return fmt.Errorf("unknown hash form '%s': use sri, base16, base32 or base64", format)
}
