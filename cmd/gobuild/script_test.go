package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"gobuild/internal/netprogram"
	"gobuild/internal/sandbox"
)

// The scripts and this test binary, as seen by the run of an ordinary user.
const (
	scriptsVar = "GOBUILD_TEST_SCRIPTS"
	scriptsDir = "../../testdata/script"
)

// ordinaryID is the user, and the group, of the run without privileges. It
// needs no account.
const ordinaryID = 12345

// TestMain lets the test binary stand in for the program, and for two that
// watch it.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"gobuild": main,
		"maxrss":  maxrssMain,
		"signal":  signalMain,
	})
}

// TestScripts runs every script as the user who runs the tests.
func TestScripts(t *testing.T) {
	dir := scriptsDir
	if d := os.Getenv(scriptsVar); d != "" {
		dir = d
	}
	makeRoot(t)
	testscript.Run(t, testscript.Params{
		Dir: dir, Setup: setUp, Condition: condition, RequireUniqueNames: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"cc":      cmdCC,
			"clean":   cmdClean,
			"count":   cmdCount,
			"drv":     cmdDrv,
			"harass":  cmdHarass,
			"let":     cmdLet,
			"mode":    cmdMode,
			"noprocs": cmdNoProcs,
			"oneline": cmdOneLine,
			"serve":   cmdServe,
			"status":  cmdStatus,
			"tmpfs":   cmdTmpfs,
			"verify":  cmdVerify,
		},
	})
}

// makeRoot tells testscript where to make the scripts' directories; it leaves
// behind what it makes itself when not all scripts run.
func makeRoot(t *testing.T) {
	t.Helper()
	root, err := os.MkdirTemp(fastDir(), "gobuild-scripts-")
	if err == nil {
		before := os.Getenv("GOTMPDIR")
		t.Cleanup(func() { os.RemoveAll(root); os.Setenv("GOTMPDIR", before) })
		err = os.Chmod(root, 0o755) // build users must be able to pass
	}
	if err == nil {
		err = os.Setenv("GOTMPDIR", root)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestScriptsAsUser runs every script once more without root's privileges: the
// whole test binary again, under an id that owns nothing but a directory.
func TestScriptsAsUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("skipped: only root can become another user; TestScripts has run without privileges")
	}
	home := userHome(t)
	_, only, _ := strings.Cut(flag.Lookup("test.run").Value.String(), "/")
	args := []string{"-test.run=^TestScripts$/" + only, "-test.paniconexit0"}
	if testing.Short() {
		args = append(args, "-test.short")
	}
	if d, ok := t.Deadline(); ok {
		args = append(args, "-test.timeout="+fmt.Sprint(untilDeadline(d)))
	}
	cmd := exec.Command(filepath.Join(home, "scripts.test"), args...)
	cmd.Dir = home
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "TMPDIR=" + home, "GOTMPDIR=" + home,
		scriptsVar + "=" + filepath.Join(home, "script"),
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: ordinaryID, Gid: ordinaryID}}
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Contains(string(out), "no tests to run") {
		t.Errorf("scripts as user %d: %v\n%s", ordinaryID, err, out)
	}
}

// userHome makes a directory for the ordinary user, with the test binary and
// the scripts, which may lie where only root can go.
func userHome(t *testing.T) string {
	t.Helper()
	home, err := os.MkdirTemp(fastDir(), "gobuild-user-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	self, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = os.WriteFile(filepath.Join(home, "scripts.test"), self, 0o755)
	}
	if err == nil {
		err = os.CopyFS(filepath.Join(home, "script"), os.DirFS(scriptsDir))
	}
	if err == nil {
		err = os.Chown(home, ordinaryID, ordinaryID)
	}
	if err != nil {
		t.Fatal(err)
	}
	return home
}

// fastDir is a directory in memory if there is a roomy one, else "", the
// default.
func fastDir() string {
	if os.Getenv("GOTMPDIR") != "" {
		return os.Getenv("GOTMPDIR")
	}
	var st syscall.Statfs_t
	if os.Getenv("TMPDIR") == "" && syscall.Statfs("/dev/shm", &st) == nil && st.Bavail*uint64(st.Bsize) > 2<<30 {
		return "/dev/shm"
	}
	return ""
}

// setUp gives a script a store of its own, which needs no flags.
func setUp(env *testscript.Env) error {
	// Build users must be able to pass.
	for _, dir := range []string{filepath.Dir(env.WorkDir), env.WorkDir} {
		if err := os.Chmod(dir, 0o755); err != nil {
			return err
		}
	}
	env.Setenv("HOME", env.WorkDir+"/home")
	env.Setenv("NIX_STORE_DIR", env.WorkDir+"/store")
	env.Setenv("NIX_STATE_DIR", env.WorkDir+"/var/nix")
	env.Setenv("NIX_LOG_DIR", env.WorkDir+"/var/log/nix")
	env.Setenv("NIX_CONF_DIR", env.WorkDir+"/conf")
	env.Setenv("system", testSystem)
	if env.Getenv("GORACE") == "" {
		env.Setenv("GORACE", "atexit_sleep_ms=0")
	}
	if err := os.MkdirAll(env.WorkDir+"/conf", 0o755); err != nil {
		return err
	}
	conf := env.WorkDir + "/conf/nix.conf"
	if _, err := os.Lstat(conf); err == nil {
		return nil // the script brings its own
	}
	return os.WriteFile(conf, []byte(testConf), 0o644)
}

// testConf has builders run, under root, as users whom nobody else on the
// machine has: a Nix that works at the same time kills all that runs as one of
// its build users.
const testConf = `build-poll-interval = 1
gc-reserved-space = 0
build-users-group =
auto-allocate-uids = true
start-id = 1610612736
id-count = 4194304
`

// condition knows "root", "race" for a test binary that is slow and needs much
// memory, and what the machine must have for some scripts.
func condition(cond string) (bool, error) {
	switch cond {
	case "root":
		return os.Geteuid() == 0, nil
	case "race":
		info, ok := debug.ReadBuildInfo()
		return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}), nil
	case "cc":
		_, err := exec.LookPath("cc")
		return err == nil, nil
	case "net": // "make" has built the network program
		fd, err := netprogram.Open()
		if err != nil {
			return false, nil
		}
		return true, syscall.Close(fd)
	case "sandbox": // a shell for builders; the kernel's part is not optional
		return sandbox.DefaultShell() != "", nil
	}
	return false, fmt.Errorf("unknown condition '%s'", cond)
}
