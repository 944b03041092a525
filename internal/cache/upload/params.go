package upload

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// params are the parameters of a cache's URL that say how to write to it.
type params struct {
	compression string // method of archives, as narinfo files name it
	level       int    // of compression; -1: the method's default
	parallel    bool   // compress one archive with several processors
	listing     bool   // write listings, too
	debugInfo   bool   // write an index of debugging information
	secretKey   string // file of the key to sign with; "": do not sign
	unknown     []string
}

// others are parameters that concern reading, or where the cache is.
var others = []string{
	"buffer-size", "endpoint", "local-nar-cache", "multipart-upload", "path-info-cache-size", "priority", "profile", "region",
	"scheme", "system-features", "trusted", "want-mass-query",
}

// parseParams reads what follows the question mark. A plus sign is itself, as
// for Nix.
func parseParams(address string) (params, error) {
	p := params{compression: "xz", level: -1}
	_, query, _ := strings.Cut(address, "?")
	for item := range strings.SplitSeq(query, "&") {
		if item == "" {
			continue
		}
		name, value, _ := strings.Cut(item, "=")
		value, err := url.PathUnescape(value)
		if err == nil {
			err = p.set(name, value)
		}
		if err != nil {
			return params{}, fmt.Errorf("the parameter '%s' of the cache's URL: %w", name, err)
		}
	}
	return p, nil
}

func (p *params) set(name, value string) (err error) {
	switch name {
	case "compression":
		p.compression = value
	case "compression-level":
		if p.level, err = strconv.Atoi(value); err != nil {
			return fmt.Errorf("'%s' is not a number", value)
		}
	case "parallel-compression":
		p.parallel, err = parseBool(value)
	case "write-nar-listing":
		p.listing, err = parseBool(value)
	case "index-debug-info":
		p.debugInfo, err = parseBool(value)
	case "secret-key":
		p.secretKey = value
	case "narinfo-compression", "ls-compression", "log-compression":
		if value != "" && value != "none" {
			return fmt.Errorf("'%s' is not supported", value)
		}
	default:
		if !slices.Contains(others, name) {
			p.unknown = append(p.unknown, name)
		}
	}
	return err
}

func parseBool(value string) (bool, error) {
	switch value {
	case "true", "yes", "1":
		return true, nil
	case "false", "no", "0":
		return false, nil
	}
	return false, fmt.Errorf("'%s' is neither true nor false", value)
}
