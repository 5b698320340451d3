/** The file formats of `mod export`; src/commands/export.ts writes each. */
export const EXPORT_FORMATS = ['tensorboard', 'wandb'] as const;

export type ExportFormat = (typeof EXPORT_FORMATS)[number];
