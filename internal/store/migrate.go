package store

import (
	"encoding/binary"
	"encoding/json"
	"fmt"

	"go.etcd.io/bbolt"
)

var (
	keyVersion     = []byte("version")
	keyGlobalID    = []byte("ula-global-id")
	keyBoot        = []byte("boot-id")
	keySysctlsBoot = []byte("sysctls-boot-id") // in which they were forgotten
	keyDUID        = []byte("duid")
	keyClock       = []byte("clock")
	keySum         = []byte("sum")
)

// migrations bring a journal from the version of their index to the next one.
// They are never changed once released: a new schema appends a step.
var migrations = []func(*bbolt.Tx) error{createBuckets, createAdvertised, settlePools, createDelegated, func(*bbolt.Tx) error { return nil }}

// summed is the first version whose journals have a sum: migrate writes it.
const summed = 5

// migrate brings the journal to the newest schema in one transaction, so that
// a crash leaves it at the old one.
func migrate(tx *bbolt.Tx) error {
	meta, err := tx.CreateBucketIfNotExists(bucketMeta)
	if err != nil {
		return err
	}
	version := uint64(0)
	if v := meta.Get(keyVersion); len(v) == 8 {
		version = binary.BigEndian.Uint64(v)
	}
	if version > uint64(len(migrations)) {
		return fmt.Errorf("schema version %d is newer than this v6net knows (%d): use the v6net that wrote it, or a newer one", version, len(migrations))
	}
	if version == uint64(len(migrations)) {
		return nil
	}
	for ; version < uint64(len(migrations)); version++ {
		if err := migrations[version](tx); err != nil {
			return fmt.Errorf("migrate schema from version %d: %w", version, err)
		}
	}
	if err := meta.Put(keyVersion, binary.BigEndian.AppendUint64(nil, version)); err != nil {
		return err
	}
	return sumAll(tx)
}

func createBuckets(tx *bbolt.Tx) error {
	for _, b := range [][]byte{bucketNetworks, bucketEndpoints, bucketPools, bucketLeases, bucketSysctls} {
		if _, err := tx.CreateBucketIfNotExists(b); err != nil {
			return fmt.Errorf("bucket %s: %w", b, err)
		}
	}
	return nil
}

func createAdvertised(tx *bbolt.Tx) error {
	if _, err := tx.CreateBucketIfNotExists(bucketAdvertised); err != nil {
		return fmt.Errorf("bucket %s: %w", bucketAdvertised, err)
	}
	return nil
}

func createDelegated(tx *bbolt.Tx) error {
	for _, b := range [][]byte{bucketDelegated, bucketIAIDs} {
		if _, err := tx.CreateBucketIfNotExists(b); err != nil {
			return fmt.Errorf("bucket %s: %w", b, err)
		}
	}
	return nil
}

// settlePools marks the pools of before, so that a start keeps those that
// networks of other drivers are on.
func settlePools(tx *bbolt.Tx) error {
	pools := tx.Bucket(bucketPools)
	settled := map[string][]byte{}
	if err := pools.ForEach(func(k, v []byte) error {
		var record map[string]json.RawMessage
		if err := json.Unmarshal(v, &record); err != nil {
			return fmt.Errorf("pool %s: %w", k, err)
		}
		record["settled"] = json.RawMessage("true")
		var err error
		settled[string(k)], err = json.Marshal(record)
		return err
	}); err != nil {
		return err
	}
	for id, record := range settled {
		if err := pools.Put([]byte(id), record); err != nil {
			return fmt.Errorf("pool %s: %w", id, err)
		}
	}
	return nil
}
