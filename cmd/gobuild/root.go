package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"gobuild/internal/activity"
	"gobuild/internal/ui"
)

// version is what --version prints.
const version = "0.1.0"

// An app is one run of the command line. Everything that the process would
// share is in it, so that a test can run many.
type app struct {
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	env    func(string) string
	flags  flags
	log    *ui.Logger // nil until the flags are read
}

// flags are those that all commands have.
type flags struct {
	storeDir, stateDir, logDir, root string
	options                          []option
	verbose, quiet                   int
	debug                            bool
	noBuildOutput, retryFailed       bool
	noBuildHook                      bool
	logFormat                        string
}

// An option is a setting given on the command line.
type option struct{ name, value string }

// run is the whole program; it returns the exit status.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer, env func(string) string) int {
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr, env: env}
	root := a.rootCommand()
	args, err := joinOptions(args)
	if err == nil {
		root.SetArgs(args)
		err = root.Execute()
	}
	if err != nil {
		a.logger().Failure(err)
	}
	a.logger().Close()
	return exitCode(err)
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "gobuild",
		Short:         "Build and keep software as Nix does",
		Long:          "gobuild realises derivations: it builds what they describe in a sandbox and keeps\nthe results in a store, which it can share with Nix.",
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(c *cobra.Command, _ []string) error {
			if err := ui.CheckFormat(a.flags.logFormat); err != nil {
				return &usageError{c.CommandPath(), err}
			}
			return nil
		},
	}
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetIn(a.stdin)
	root.Args = cobra.NoArgs
	root.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return &usageError{c.CommandPath(), err} })
	a.addFlags(root)
	root.AddCommand(
		a.realiseCommand(), a.ensurePathCommand(), a.repairPathCommand(), a.derivationCommand(), a.addCommand(), a.addFixedCommand(), a.queryCommand(),
		a.queryFailedCommand("query-failed-paths"), a.clearFailedCommand(),
		a.logCommand(), a.dumpCommand(), a.restoreCommand(), a.exportCommand(), a.importCommand(), a.hashCommand(), a.deleteCommand(),
		a.keysCommand(), a.copyCommand(), a.hookCommand(),
	)
	checkUsage(root)
	return root
}

func (a *app) addFlags(root *cobra.Command) {
	f, s := root.PersistentFlags(), &a.flags
	f.StringVar(&s.storeDir, "store-dir", "", "`DIR` of the store; its database is in DIR/../var/nix unless set")
	f.StringVar(&s.stateDir, "state-dir", "", "`DIR` of the database and the roots")
	f.StringVar(&s.logDir, "log-dir", "", "`DIR` of the build logs")
	f.StringVar(&s.root, "root", "", "keep store, database and logs below `DIR` without changing store paths")
	f.Var(&optionFlag{a: a}, "option", "set the setting NAME to `VALUE`: --option NAME VALUE")
	f.CountVarP(&s.verbose, "verbose", "v", "say more; give it again for still more")
	f.CountVar(&s.quiet, "quiet", "say less")
	f.BoolVar(&s.debug, "debug", false, "say everything that helps to find a fault")
	f.StringVar(&s.logFormat, "log-format", "", "`FORMAT` of messages: raw, raw-with-logs, internal-json, bar or bar-with-logs")
}

// logger is made when it is first used: by then the flags are known, or wrong.
func (a *app) logger() *ui.Logger {
	if a.log == nil {
		a.log = ui.New(ui.Options{
			Out: a.stderr, Env: a.env, Format: a.flags.logFormat,
			Verbosity: a.verbosity(), HideBuildOutput: a.flags.noBuildOutput,
		})
	}
	return a.log
}

func (a *app) verbosity() activity.Level {
	if a.flags.debug {
		return activity.Debug
	}
	level := activity.Info + activity.Level(a.flags.verbose-a.flags.quiet)
	return min(max(level, activity.Error), activity.Vomit)
}

// joinOptions turns "--option NAME VALUE" into one argument, as flags have one
// value only.
func joinOptions(args []string) ([]string, error) {
	var out []string
	for i := 0; i < len(args); i++ {
		switch {
		case args[i] == "--":
			return append(out, args[i:]...), nil
		case args[i] != "--option":
			out = append(out, args[i])
		case i+2 >= len(args):
			return nil, &usageError{"gobuild", errors.New("flag '--option' requires two arguments")}
		default:
			out = append(out, "--option="+args[i+1]+"="+args[i+2])
			i += 2
		}
	}
	return out, nil
}

// An optionFlag collects settings.
type optionFlag struct {
	a       *app
	setting string // of a flag of its own; "" for --option
	isBool  bool
	negated bool
}

func (f *optionFlag) String() string { return "" }

// Type is the kind of value in help texts.
func (f *optionFlag) Type() string {
	if f.isBool {
		return "bool"
	}
	return "string"
}

// IsBoolFlag makes the value optional.
func (f *optionFlag) IsBoolFlag() bool { return f.isBool }

// Set notes the setting; it is checked when all settings are loaded.
func (f *optionFlag) Set(text string) error {
	o := option{f.setting, text}
	if f.setting == "" {
		name, value, ok := strings.Cut(text, "=")
		if !ok {
			return fmt.Errorf("'%s' has no value", text)
		}
		o = option{name, value}
	}
	if f.negated {
		b, err := strconv.ParseBool(text)
		if err != nil {
			return err
		}
		o.value = strconv.FormatBool(!b)
	}
	f.a.flags.options = append(f.a.flags.options, o)
	return nil
}
