/** The data files that a run's manifest records, and their differences from those of today. */
import type { DataFile, DataFiles, DataRole } from '../data/config.js';

/** Both are absent in manifests of older versions. */
export interface RecordedFiles {
  /** Bytes of each file that `spec.data` matched. */
  data_files?: Partial<Record<DataRole, Record<string, number>>>;
  /** Content hash of each of them. */
  data_hashes?: Partial<Record<DataRole, Record<string, string>>>;
}

/** The record of the data files of a run. */
export function recordedFiles(files: Partial<DataFiles>): Required<RecordedFiles> {
  const each = <T>(value: (file: DataFile) => T) =>
    Object.fromEntries(
      Object.entries(files).map(([role, byName]) => [
        role,
        Object.fromEntries(Object.entries(byName).map(([name, file]) => [name, value(file)])),
      ]),
    );
  return { data_files: each(({ bytes }) => bytes), data_hashes: each(({ hash }) => hash) };
}

/**
 * Files that were added, removed or changed, as `heldout file h.txt: 500 bytes → 600 bytes`, or of an equal size as
 * `heldout file h.txt: other content (500 bytes, hash 0123456789abcdef → fedcba9876543210)`.
 */
export function fileDifferences(recorded: RecordedFiles, now: Partial<DataFiles>): string[] {
  return (['train', 'heldout'] as const).flatMap((role) => {
    const [old, files] = [recorded.data_files?.[role], now[role]];
    if (old === undefined || files === undefined) return [];
    const hashes = recorded.data_hashes?.[role] ?? {};
    const text = (bytes: number | undefined) => (bytes === undefined ? 'absent' : `${bytes} bytes`);
    return [...new Set([...Object.keys(old), ...Object.keys(files)])].flatMap((name) => {
      const [before, file, hash] = [old[name], files[name], hashes[name]];
      if (before !== file?.bytes) return [`${role} file ${name}: ${text(before)} → ${text(file?.bytes)}`];
      if (hash === undefined || hash === file?.hash) return [];
      return [`${role} file ${name}: other content (${text(before)}, hash ${hash} → ${file?.hash})`];
    });
  });
}
