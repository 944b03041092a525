package goal

import (
	"fmt"

	"gobuild/internal/store"
	"gobuild/internal/store/sign"
)

// loadKeys reads the secret keys before the first builder of a run starts: a
// key that cannot be read is better known before an hour of building than
// after it, and runs that build nothing need no keys.
func (e *Engine) loadKeys() error {
	if e.keys != nil || len(e.opt.SecretKeys) == 0 {
		return nil
	}
	keys := make([]sign.SecretKey, len(e.opt.SecretKeys))
	for i, file := range e.opt.SecretKeys {
		var err error
		if keys[i], err = sign.ReadSecret(file); err != nil {
			return fmt.Errorf("setting 'secret-key-files': %w", err)
		}
	}
	e.keys = keys
	return nil
}

// sign adds the signatures of all keys to what has been built here.
func (e *Engine) sign(info *store.Info) error {
	if err := e.loadKeys(); err != nil || len(e.keys) == 0 {
		return err
	}
	fingerprint, err := sign.Fingerprint(info.Path, info.NarHash, info.NarSize, info.References)
	if err != nil {
		return err
	}
	for _, key := range e.keys {
		info.Sigs = append(info.Sigs, key.Sign(fingerprint))
	}
	return nil
}
