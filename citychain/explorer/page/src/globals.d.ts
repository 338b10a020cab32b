/** Names of the files of workers, by the names of their sources; build.mjs sets it. */
declare const WORKERS: Readonly<Record<string, string>>;

/** The name of the file of the world's outline; build.mjs sets it. */
declare const WORLD: string;
