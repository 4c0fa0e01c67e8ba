// What the hosts' own modules give, as far as the entries here need it.

declare module 'node:fs/promises' {
  export function readFile(file: URL | string): Promise<Uint8Array<ArrayBuffer>>;
}
declare module '*/nearfield_bg.wasm' {
  const module: WebAssembly.Module;
  export default module;
}
declare module '*/nearfield_bg.wasm?module' {
  const module: WebAssembly.Module;
  export default module;
}
/** Bytes of the core, compressed by gzip, in base64: `build.mjs` puts them there. */
declare module 'nearfield_bg.wasm.gz' {
  const base64: string;
  export default base64;
}
