/** Register. */

export function Register() {
  return null;
}
