package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"gobuild/internal/store/sign"
)

func (a *app) keysCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "keys",
		Short: "Make the keys that sign paths",
		Long: `Keys makes pairs of keys. With the secret one in the setting secret-key-files, what
is built is signed; whoever has the public one in trusted-public-keys trusts that.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(&cobra.Command{
		Use:     "generate NAME SECRET-FILE PUBLIC-FILE",
		Short:   "Make a pair of keys",
		Long:    "Generate makes a pair of keys and writes them to two files, which must not exist.\nSignatures carry the NAME, by which others find the key to check them with.",
		Example: "  gobuild keys generate cache.example.org-1 /etc/nix/secret-key /etc/nix/public-key",
		Args:    cobra.ExactArgs(3),
		RunE:    func(_ *cobra.Command, args []string) error { return generateKeys(args[0], args[1], args[2]) },
	}, &cobra.Command{
		Use:   "public [SECRET-FILE]",
		Short: "Print the public key of a secret one, which is read from a file or from standard input",
		Args:  cobra.MaximumNArgs(1),
		RunE:  func(_ *cobra.Command, args []string) error { return a.printPublic(args) },
	})
	return c
}

// generateKeys leaves either two new files or none.
func generateKeys(name, secretFile, publicFile string) error {
	key, err := sign.Generate(name)
	if err != nil {
		return err
	}
	if err := writeNew(secretFile, key.Export(), 0o600); err != nil {
		return err
	}
	if err := writeNew(publicFile, key.Public().String(), 0o644); err != nil {
		return errors.Join(err, os.Remove(secretFile))
	}
	return nil
}

// writeNew writes a file that must not exist: what signed what people have
// fetched must not be lost by mistake.
func writeNew(name, text string, mode os.FileMode) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("'%s' exists, and keys are not overwritten", name)
	}
	if err != nil {
		return fmt.Errorf("writing a key: %w", err)
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("writing a key: %w", errors.Join(err, os.Remove(name)))
	}
	return nil
}

func (a *app) printPublic(args []string) error {
	if len(args) > 0 {
		key, err := sign.ReadSecret(args[0])
		if err != nil {
			return err
		}
		return a.print(key.Public().String())
	}
	text, err := io.ReadAll(io.LimitReader(a.stdin, 64<<10))
	if err != nil {
		return fmt.Errorf("reading a key from standard input: %w", err)
	}
	key, err := sign.ParseSecret(string(text))
	if err != nil {
		return fmt.Errorf("standard input: %w", err)
	}
	return a.print(key.Public().String())
}
